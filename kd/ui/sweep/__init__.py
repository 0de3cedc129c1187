"""The Sweep page: sweeps over a grid, and searches."""
