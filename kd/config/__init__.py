"""The settings of each kind of run."""
