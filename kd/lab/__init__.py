"""The dark-knowledge lab: what soft targets hold that labels do not, as pure functions."""
