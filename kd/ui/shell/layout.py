"""Where the parts of a page go."""

from __future__ import annotations

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from kd.ui.shell import url_state


def side_by_side(both: bool) -> tuple[DeltaGenerator, DeltaGenerator]:
    """Return the containers for the charts and for the drawing.

    They are stacked; in presenter mode, if both are used, they are side by side so that both are in view.
    """
    left, right = (
        st.columns([8, 5], gap="medium")
        if both and url_state.presenting()
        else (st.container(), st.container())
    )
    return left, right
