"""Start, stop and follow the run that an experiment of the lab shows."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from kd.config.base import Settings
from kd.config.distil import DistilConfig
from kd.config.study import StudyConfig
from kd.jobs.snapshot import Snapshot
from kd.ui.lab import frame
from kd.ui.run import progress, titles
from kd.ui.run.run_view import RunView
from kd.ui.shell import session_keys

#: The Distil page's run, which all pages can show.
SHARED = RunView(session_keys.RUN, "lab", lambda kind: kind.page != "lab", "a run")
#: The lab's own run: a study, or a run with a mistake.
OWN = RunView(
    session_keys.LAB_RUN, "lab", lambda kind: kind.page == "lab", "a run", parameter=session_keys.LAB_RUN
)


def study(name: str) -> Snapshot | None:
    """Draw the number of seeds, Start and Stop of a study; return the study shown, or None."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        seeds = frame.FORM.number("seeds", width=140)
    snap = OWN.find()
    snap = snap if snap is not None and snap.kind == "study" and snap.config.study == name else None
    buttons(OWN, StudyConfig(study=name, seeds=seeds), snap)
    return snap


def distillation() -> Snapshot | None:
    """Draw Start and Stop of a run with the default settings; return the distillation shown, or None."""
    snap = SHARED.find()
    buttons(SHARED, DistilConfig(), snap)
    if snap is None or snap.kind != "distil":
        st.info(
            "Press **Start** for a run with the default settings, or open another run on the **Distil** or "
            "**Runs** page: this page shows the same run."
        )
        return None
    st.caption(titles.title(snap))
    return snap


def buttons(view: RunView, config: Settings | None, snap: Snapshot | None) -> None:
    """Draw Start for ``config``, Resume if the run was interrupted, and Stop."""
    with st.container(horizontal=True):
        view.start_button(config, snap)
        if view.interrupted(snap):
            view.resume_button(icon=":material/resume:")
        view.stop_button(snap, "Ends training; the results so far stay on the page.")


def follow(view: RunView, snap: Snapshot, draw: Callable[[Snapshot], None]) -> None:
    """Show how the run ended, and keep calling ``draw`` with its newest snapshot while it trains."""
    with st.container():  # a message that appears must not shift the charts below
        progress.outcome(snap)
    view.follow(snap, draw)
