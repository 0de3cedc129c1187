"""An SVG drawing as part of the page, so that it takes the text's colour and font from the theme.

st.html removes SVG, and st.image shows it as a separate file, which does not know the page's theme.
"""

from __future__ import annotations

import streamlit as st

from kd.ui import frontend

_picture = st.components.v2.component(
    "kd_picture",
    html='<div class="kd-picture"></div>',
    css=frontend.read("inline_svg.css"),
    js=frontend.script("inline_svg.js"),
)


def picture(svg: str, key: str) -> None:
    """Show ``svg``, which must come from our own code: it becomes part of the page unchanged."""
    _picture(data={"svg": svg}, key=key)
