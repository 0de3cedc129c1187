"""The Draw page, and the drawing that all pages share."""
