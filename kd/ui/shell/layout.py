"""Where the parts of a page go."""

from __future__ import annotations

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from kd.ui.shell import url_state


def side_by_side(both: bool) -> tuple[DeltaGenerator, DeltaGenerator]:
    """Where the charts and the digit go: below each other, and on a stage beside each other where there are both, to be seen at once."""
    left, right = (
        st.columns([8, 5], gap="medium")
        if both and url_state.presenting()
        else (st.container(), st.container())
    )
    return left, right
