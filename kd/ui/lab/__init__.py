"""The panels of the Dark knowledge page, one module each."""
