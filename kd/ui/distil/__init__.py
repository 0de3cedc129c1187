"""The Distil page."""
