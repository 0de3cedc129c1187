"""The few style rules that Streamlit's theme cannot express, and what lets a browser translate the page."""

from __future__ import annotations

import streamlit as st

from kd.ui import frontend

_ALWAYS = frontend.read("reduced_motion.css") + frontend.read("contrast.css")
_PRESENTER = frontend.read("presenter.css")
_translation = st.components.v2.component("kd_translation", js=frontend.script("translation.js"))


def apply(presenting: bool) -> None:
    """Add the rules to the page; in presenter mode with large type and without menus.

    Streamlit sends an element that has only style rules after the first captions. The empty span makes it an
    ordinary element, which is sent first. A browser's translator must neither freeze nor break the page.
    """
    with st.container(key="kd_style"):
        st.html(f"<span></span><style>{_ALWAYS}{_PRESENTER if presenting else ''}</style>")
        _translation(key="translation", height=1)
