"""Networks as files for use elsewhere, and back."""
