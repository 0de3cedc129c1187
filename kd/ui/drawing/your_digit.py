"""Your digit: a drawing that teacher, student and control answer while the student learns."""

from __future__ import annotations

import streamlit as st

from kd.jobs.snapshot import Snapshot
from kd.ui.drawing import answers
from kd.ui.drawing.canvas import canvas, clear, show
from kd.ui.run import teachers
from kd.ui.shell import present, session_keys, shared, url_state, visitor
from kd.ui.shell.error_boundary import plainly


@st.fragment
@plainly()
def your_digit(
    snap: Snapshot | None,
    teacher: str,
    temperature: float,
    alone: str = "Student and control join when you press Start.",
) -> None:
    """Show the canvas and the answers to it.

    Args:
        snap: the run whose student and control answer; if None, only the teacher answers.
        teacher: the name of the teacher.
        temperature: the temperature in the settings; visitors can switch between it and 1.
        alone: a sentence on when student and control will answer, shown while only the teacher does.
    """
    on_stage = url_state.presenting()
    if not on_stage:
        st.header("Your digit", anchor=False)
    left, right = st.columns(2 if on_stage else [2, 3], gap="medium")
    with left, st.container(key="kd_canvas"):
        picture = canvas("distil")
    with right:
        with st.container(horizontal=True, vertical_alignment="bottom"):
            softened = st.segmented_control(
                "Show answers at",
                [False, True],
                default=False,
                required=True,
                key=session_keys.SHOW_AT,
                format_func=lambda soft: f"T = {temperature if soft else 1:g}",
                help=(
                    "At T = 1 you see a model's answer; at the temperature in the settings, how unsure it is."
                ),
            )
            st.button(
                "Test digit",
                key="test_digit",
                icon=":material/casino:",
                shortcut=present.key("D"),
                on_click=_take_test_digit,
                help="Takes the next picture of the test set instead of a drawing.",
            )
            if on_stage:
                st.button(
                    "Clear",
                    key="clear_drawing",
                    icon=":material/ink_eraser:",
                    shortcut=present.key("X"),
                    on_click=clear,
                )
    # On a stage the two columns are narrow, and the answers go below both.
    with st.container() if on_stage else right:
        teacher = teachers.find(teacher).name
        if picture is None:
            answers.familiar(teacher)  # computed now, so that the first drawing is answered at once
            st.info(
                "Draw a digit with the mouse or a finger. "
                f"{'' if snap else 'The teacher answers at once. ' + alone}"
            )
            return
        # The browser asks for the answers again by itself; this fragment does not run for it.
        now = (
            shared.manager().snapshot(snap.id, visitor.token()) if snap is not None and snap.active else snap
        )
        result = answers.answer(picture, now, teacher)
        answers.show(
            result.logits,
            temperature if softened else 1.0,
            "chart_answers",
            live=(now, picture) if now is not None else None,
        )
        answers.warn(result)


def _take_test_digit() -> None:
    """Take another picture from the test set; it skips some, because the sample is sorted by digit."""
    test, taken = shared.manager().source.mnist().test, st.session_state.get(session_keys.TEST_DIGITS, 0)
    st.session_state[session_keys.TEST_DIGITS] = taken + 1
    place = (7 + 317 * taken) % len(test)
    show(test.images[place].cpu().numpy(), f"Test picture {place + 1:,}, a {int(test.labels[place])}.")
