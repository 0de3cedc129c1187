"""Turn results into Plotly figures, as plain dicts."""
