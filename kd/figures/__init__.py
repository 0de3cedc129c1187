"""Charts as plain data for Plotly."""
