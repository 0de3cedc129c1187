"""Starting, stopping and following the run that a panel shows."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from kd.config.base import Settings
from kd.config.distil import DistilConfig
from kd.config.kinds import KINDS
from kd.config.study import StudyConfig
from kd.errors import UserError
from kd.jobs.snapshot import Snapshot
from kd.ui.charts.watch import watch
from kd.ui.lab import frame
from kd.ui.runs import progress, snapshots, titles
from kd.ui.shell import notices, session_keys, shared, visitor
from kd.ui.shell.escape import plain


def on_show(slot: str = session_keys.RUN) -> Snapshot | None:
    """The run that this visitor sees, or in the slot LAB_RUN the one of the lab's own; None where there is none."""
    if slot == session_keys.RUN:
        id = snapshots.shown_run()
    else:
        id = st.session_state.setdefault(slot, st.query_params.get(slot))
    try:
        snap = snapshots.find(id)
        if snap is not None and (KINDS[snap.kind].page == "lab") != (slot == session_keys.LAB_RUN):
            raise UserError(
                "The link's run is of another kind than this experiment shows; start one of your own."
            )
        return snap
    except UserError as error:
        st.error(plain(error))
        st.session_state[slot] = None
        return None


def sweep(study: str) -> Snapshot | None:
    """Seeds, Start and Stop of a sweep of this study, and the one on show; None where there is none."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        seeds = frame.chosen(st.number_input, "seeds", width=140)
    snap = on_show(session_keys.LAB_RUN)
    snap = snap if snap is not None and snap.kind == "study" and snap.config.study == study else None
    buttons(StudyConfig(study=study, seeds=seeds), snap, session_keys.LAB_RUN)
    return snap


def distillation() -> Snapshot | None:
    """Start and Stop of a run of the default settings, and the run on show where it is a student's; None where there is none."""
    snap = on_show()
    buttons(DistilConfig(), snap)
    if snap is None or snap.kind != "distil":
        st.info(
            "Press **Start** for a run of the usual settings, or choose another on the **Distil** or **Runs** page: it stays on show here."
        )
        return None
    st.caption(titles.title(snap))
    return snap


def buttons(config: Settings | None, snap: Snapshot | None, slot: str = session_keys.RUN) -> None:
    """Start, of ``config`` where there is one, and Stop, of ``snap``, or Resume where it was interrupted."""
    mine = snap is not None and snap.active and snap.mine
    with st.container(horizontal=True):
        st.button(
            "Start",
            key="lab_start",
            type="primary",
            icon=":material/play_arrow:",
            disabled=config is None or mine,
            on_click=_start,
            args=(config, slot),
        )
        if snap is not None and snap.mine and snap.state == "interrupted" and not snap.saved:
            st.button(
                "Resume",
                key="lab_resume",
                icon=":material/resume:",
                on_click=_command,
                args=(shared.manager().resume, slot),
            )
        st.button(
            "Stop",
            key="lab_stop",
            icon=":material/stop:",
            disabled=not mine,
            on_click=_command,
            args=(shared.manager().stop, slot),
            help="Ends training; what was learned stays on show.",
        )


def _start(config: Settings, slot: str) -> None:
    try:
        st.session_state[slot] = shared.manager().start(config, visitor.token())
        st.session_state.pop(session_keys.ADOPTED, None)  # the Distil page takes over its settings
    except UserError as error:
        notices.notify("error", str(error))


def _command(what: Callable[[str, str], None], slot: str) -> None:
    try:
        what(st.session_state[slot], visitor.token())
    except UserError as error:
        notices.notify("error", str(error))


def forget(slot: str = session_keys.RUN) -> None:
    """Takes the run off the page; one under way ends."""
    snap = shared.manager().snapshot(st.session_state.get(slot) or "", visitor.token())
    if snap is not None and snap.active and snap.mine:
        _command(shared.manager().stop, slot)
    st.session_state[slot] = None


def follow(snap: Snapshot, draw: Callable[[Snapshot], None]) -> None:
    """Calls ``draw`` with the run as it is now, again and again while it trains."""

    def live() -> None:
        now = snapshots.find(snap.id)
        if now.state != snap.state:
            st.rerun()
        progress.bar(now)
        draw(now)

    with st.container():  # a message that comes must not shift the charts below
        progress.outcome(snap)
    watch(snap, live)
