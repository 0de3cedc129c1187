"""Experiments: what each kind of run trains and measures."""
