"""Compare stored runs: latency, size and accuracy, measured side by side."""
