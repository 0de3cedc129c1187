"""Entry point of the app: `streamlit run app.py` serves the pages and our own routes."""

import streamlit as st

from kd import paths
from kd.ui.server.lifespan import lifespan
from kd.ui.server.middleware import middleware
from kd.ui.server.routes import routes

app = st.App(paths.MAIN_SCRIPT, routes=routes(), middleware=middleware(), lifespan=lifespan)
