"""Numbers about a network: accuracy, fidelity, calibration, size and latency."""
