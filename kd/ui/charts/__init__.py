"""Live charts of runs, and the feed that spectators follow."""
