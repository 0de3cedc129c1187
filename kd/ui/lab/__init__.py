"""The experiments of the Dark knowledge page, one module each."""
