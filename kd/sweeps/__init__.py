"""Many trainings as one run: sweeps over a grid of settings and searches of settings."""
