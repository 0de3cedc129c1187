"""Our own routes, middleware and lifespan, served beside Streamlit's by the st.App in app.py."""
