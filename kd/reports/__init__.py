"""Runs as pages to give away."""
