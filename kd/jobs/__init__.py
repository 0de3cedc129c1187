"""Training in the background: one worker, a queue, and the commands and snapshots for pages."""
