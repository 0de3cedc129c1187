"""Your digit: a drawing that teacher, student and control answer while the student learns."""

from __future__ import annotations

import numpy as np
import streamlit as st

from kd.jobs import Snapshot
from kd.ui import keys, panels, state
from kd.ui.canvas import canvas
from kd.ui.plain import plainly


@st.fragment
@plainly()
def your_digit(snap: Snapshot | None, teacher: str, temperature: float) -> None:
    """The canvas and the answers to it.

    Args:
        snap: the run whose student and control answer; without one the teacher answers alone.
        teacher: the name of the teacher.
        temperature: of the settings; the answers can be shown at it or at 1.
    """
    st.subheader("Your digit", anchor=False)
    left, right = st.columns([2, 3], gap="medium")
    with left:
        picture = canvas("distil")
    with right:
        softened = st.segmented_control(
            "Show answers at", [False, True], default=False, required=True, key=keys.SHOW_AT,
            format_func=lambda soft: f"T = {temperature if soft else 1:g}",
            help="Temperature 1 is what a model would answer; the temperature of the settings shows its doubts.",
        )
        teacher = state.find_teacher(teacher).name
        if picture is None:
            state.familiar(teacher)  # made ready, so that the first drawing is answered at once
            alone = "" if snap else "The teacher answers at once; student and control join when you press Start."
            st.info(f"Draw a digit with the mouse or a finger. {alone}")
            return
        # Only the answers are repeated while a student learns, and only where there is something to answer.
        again = snap.pace if snap is not None and snap.active else None
        st.fragment(_answers, run_every=again)(picture, snap, teacher, temperature if softened else 1.0)


@plainly()
def _answers(picture: np.ndarray, snap: Snapshot | None, teacher: str, temperature: float) -> None:
    found = state.answers(picture, snap, teacher)
    panels.answer_bars(found.logits, temperature, "chart_answers")
    if not found.is_digit:
        panels.not_a_digit()
