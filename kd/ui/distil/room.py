"""Tell a visitor who sees no run about their own one, or about the one that somebody else trains."""

from __future__ import annotations

import streamlit as st

from kd.jobs.snapshot import Snapshot
from kd.ui.run import progress, titles
from kd.ui.runs import details
from kd.ui.shell import shared, visitor
from kd.ui.shell.error_boundary import plainly

EVERY = 5.0  # seconds between two updates of the time left


def show() -> None:
    """Offer the visitor's own run, or else the run that somebody else trains, until it has ended."""
    st.fragment(plainly()(_notice), run_every=EVERY if shared.manager().active() else None)()


def _notice() -> None:
    under_way = shared.manager().under_way(visitor.token())
    mine = next((snap for snap in under_way if snap.mine), None)
    first = next((snap for snap in under_way if snap.state == "running"), None)
    shown = mine or first
    if shown is None:
        return
    with st.container(horizontal=True, vertical_alignment="center", key="kd_room"):
        if mine:
            st.info(f"Your run is under way: {titles.title(mine)}. {_state(mine)}")
            label = "Return to your run"
        else:
            queue = sum(snap.state == "queued" for snap in under_way)
            others = f" {queue} more {'is' if queue == 1 else 'are'} waiting." if queue else ""
            st.info(
                f"Somebody else is training now: {titles.title(first)}. {_state(first)}{others} You can "
                "press Start at any time: your run begins when its turn comes."
            )
            label = "Watch it"
        if st.button(label, key="room_open", icon=":material/visibility:"):
            details.open_run(shown.id, shown.config)


def _state(snap: Snapshot) -> str:
    """Return in a sentence how long a run still takes, or what it waits for."""
    if snap.state == "paused":
        return "It is paused."
    if snap.state == "queued":
        return f"It waits for {snap.place} other{'s' if snap.place > 1 else ''}."
    seconds = progress.seconds_left(snap)
    if seconds is None:
        return "It is just starting."
    if seconds < 90:
        return f"About {max(1, round(seconds))} s left."
    return f"About {round(seconds / 60):,} min left."
