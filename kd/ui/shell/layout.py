"""Where the parts of a page go."""

from __future__ import annotations

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from kd.ui.shell import url_state


def side_by_side(both: bool) -> tuple[DeltaGenerator, DeltaGenerator]:
    """Return the places of the charts and of the digit.

    They are below each other; on a stage, where there are both, side by side, to be seen at once.
    """
    left, right = (
        st.columns([8, 5], gap="medium")
        if both and url_state.presenting()
        else (st.container(), st.container())
    )
    return left, right
