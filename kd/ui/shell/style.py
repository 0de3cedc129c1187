"""The few style rules that Streamlit's theme cannot express."""

from __future__ import annotations

import streamlit as st

from kd.ui import frontend

_ALWAYS = frontend.read("reduced_motion.css") + frontend.read("contrast.css")
_PRESENTER = frontend.read("presenter.css")


def apply(presenting: bool) -> None:
    """Add the rules to the page; in presenter mode with large type and without menus.

    Streamlit sends an element of style rules alone later than the first captions. With another node
    next to the rules it is an element like any other, and comes first.
    """
    with st.container(key="kd_style"):
        st.html(f"<span></span><style>{_ALWAYS}{_PRESENTER if presenting else ''}</style>")
