"""The dark-knowledge lab: what soft targets contain that labels do not, as pure functions."""
