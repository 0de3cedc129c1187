"""Measure networks: accuracy, fidelity, calibration, size and latency."""
