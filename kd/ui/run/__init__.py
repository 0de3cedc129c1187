"""A run on any page: found, named, followed, replayed, and its results."""
