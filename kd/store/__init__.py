"""What is kept on disk: runs, checkpoints and drawings."""
