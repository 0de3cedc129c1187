"""Files on disk: runs, checkpoints and drawings."""
