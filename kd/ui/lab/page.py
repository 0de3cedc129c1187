"""The Dark knowledge page: one experiment at a time, chosen at the top."""

from __future__ import annotations

import streamlit as st

from kd import paths
from kd.config.base import Settings
from kd.lab.settings import PANELS
from kd.ui.lab import (
    break_it,
    fidelity,
    frame,
    inside,
    label_budget,
    never_saw,
    running,
    shift,
    soft_targets,
    wrong_labels,
)
from kd.ui.shell import notices

#: Experiment -> the function that shows it, and the view of its run if it has one.
SHOW = {
    "soft-targets": (soft_targets.show, None),
    "never-saw": (never_saw.show, running.SHARED),
    "label-budget": (label_budget.show, running.OWN),
    "shift": (shift.show, running.SHARED),
    "wrong-labels": (wrong_labels.show, running.OWN),
    "inside": (inside.show, running.SHARED),
    "fidelity": (fidelity.show, running.SHARED),
    "break-it": (break_it.show, running.OWN),
}


def open_run(id: str, config: Settings) -> None:
    """Go to this page and show a run of one of its own kinds."""
    frame.show_run(id, config)
    st.switch_page(paths.page("dark_knowledge"))


def show() -> None:
    """Draw the whole page."""

    def reset() -> None:
        frame.reset()
        if view is not None:
            view.forget()

    frame.restore()
    with st.container():
        notices.show()  # what was wrong with the link
    st.title("Dark knowledge", anchor=False)
    panel = frame.FORM.widget(
        st.segmented_control,
        "panel",
        options=list(PANELS),
        format_func=PANELS.get,
        required=True,
        label_visibility="collapsed",
    )
    draw, view = SHOW[panel]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Reset",
            key="lab_reset",
            icon=":material/restart_alt:",
            on_click=reset,
            help="Restores this experiment's defaults.",
        )
        st.caption("Copy the page's address to share exactly what you see.")
    draw()
    frame.write_link()
