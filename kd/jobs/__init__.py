"""Training in the background: one worker, a queue, and what pages may see and command."""
