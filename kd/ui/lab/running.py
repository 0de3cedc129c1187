"""Starting, stopping and following the run that a panel shows."""

from __future__ import annotations

from typing import Callable

import streamlit as st

from kd.config import Config
from kd.errors import UserError
from kd.jobs import Snapshot
from kd.ui import keys, owner, panels, state
from kd.ui.watch import watch


def on_show() -> Snapshot | None:
    """The run that this visitor sees on all pages, or None."""
    try:
        return state.snapshot(state.shown_run())
    except UserError as error:
        st.error(str(error))
        st.session_state[keys.RUN] = None
        return None


def buttons(config: Config | None, snap: Snapshot | None) -> None:
    """Start, of ``config`` where there is one, and Stop, of ``snap``."""
    mine = snap is not None and snap.active and snap.mine
    with st.container(horizontal=True):
        st.button("Start", key="lab_start", type="primary", icon=":material/play_arrow:", disabled=config is None or mine, on_click=_start, args=(config,))
        st.button("Stop", key="lab_stop", icon=":material/stop:", disabled=not mine, on_click=stop, help="Ends training; what was learned stays on show.")


def _start(config: Config) -> None:
    try:
        st.session_state[keys.RUN] = state.manager().start(config, owner.token())
        st.session_state.pop(keys.ADOPTED, None)  # the Distil page takes over its settings
    except UserError as error:
        state.notify("error", str(error))


def stop() -> None:
    """Ends the run on show if it is this visitor's."""
    try:
        state.manager().stop(st.session_state[keys.RUN], owner.token())
    except UserError as error:
        state.notify("error", str(error))


def forget() -> None:
    """Takes the run off the page; one under way ends."""
    snap = state.manager().snapshot(st.session_state.get(keys.RUN) or "", owner.token())
    if snap is not None and snap.active and snap.mine:
        stop()
    st.session_state[keys.RUN] = None


def follow(snap: Snapshot, draw: Callable[[Snapshot], None]) -> None:
    """Calls ``draw`` with the run as it is now, again and again while it trains."""

    def live() -> None:
        now = state.snapshot(snap.id)
        if now.state != snap.state:
            st.rerun()
        panels.progress(now)
        draw(now)

    with st.container():  # a message that comes must not shift the charts below
        panels.outcome(snap)
    watch(snap, live)
