"""A button for full screen mode.

Browsers allow it only in response to a click or key press on the page, so the server cannot request it.
"""

from __future__ import annotations

import streamlit as st

from kd.ui import frontend

_button = st.components.v2.component(
    "kd_full_screen",
    html=frontend.read("full_screen.html"),
    css=frontend.read("stage_button.css"),
    js=frontend.script("full_screen.js"),
)


def button(key: str) -> None:
    """Show the button, with ``key`` as its shortcut; it is hidden if the browser has no full screen."""
    _button(data={"key": key}, key="full_screen", width="content")
