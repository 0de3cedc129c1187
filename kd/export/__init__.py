"""Export networks to files for use elsewhere, and import them."""
