"""Drawings: from strokes and pictures to the image that the networks see."""
