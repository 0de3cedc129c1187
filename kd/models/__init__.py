"""Networks: what can be built, how they are run, compressed and drawn."""
