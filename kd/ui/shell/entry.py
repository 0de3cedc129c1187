"""Sees that app.py runs before any page."""

from __future__ import annotations

import runpy

import streamlit as st

from kd import paths
from kd.ui.shell import session_keys


def through_app() -> None:
    """Runs app.py where a page was entered without it.

    Until st.navigation has been called once in a server's life, Streamlit takes a
    folder named pages for its older kind of multipage app: the very first request, if
    it is a link to a page other than the default, runs that page alone.
    """
    if session_keys.OWNER not in st.session_state:
        runpy.run_path(str(paths.ROOT / "app.py"))
        st.stop()
