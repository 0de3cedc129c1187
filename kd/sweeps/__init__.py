"""Many students at once: every combination of settings, on one machine or on many, or a search among them."""
