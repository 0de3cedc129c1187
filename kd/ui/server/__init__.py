"""Our own routes, middleware and lifespan, which the st.App in app.py adds to Streamlit's."""
