"""The Runs page, and parts of pages that show a run."""
