"""Settings as widgets."""
