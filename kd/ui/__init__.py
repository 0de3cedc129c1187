"""The only part of kd that imports streamlit."""
