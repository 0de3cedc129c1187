"""Stored runs compared: latency, size and accuracy measured side by side."""
