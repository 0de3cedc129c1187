"""Redraw the part of a page that shows a run while the run is active."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from kd.jobs.snapshot import GLANCE, Snapshot
from kd.ui.shell import shared, visitor
from kd.ui.shell.error_boundary import plainly

MIN_SECONDS = 5.0  # between two adjustments of the pace
MIN_UPDATES = 6  # between two adjustments of the pace


def watch(snap: Snapshot, show: Callable[[], None], followed: bool = False) -> None:
    """Call ``show`` repeatedly while the run is active; the more viewers, the longer the interval.

    A fragment cannot change its own ``run_every``, so an outer fragment that reruns less often adjusts it.

    Args:
        followed: whether the browser gets its updates from the live feed. ``show`` is then called only
            every ``GLANCE`` seconds, so that the server knows who is watching.
    """
    if followed:
        st.fragment(plainly()(show), run_every=GLANCE)()
        return

    def repeat() -> None:
        now = shared.manager().snapshot(snap.id, visitor.token()) if snap.active else None
        st.fragment(plainly()(show), run_every=now.pace if now else None)()

    # Less often with many viewers, since each adjustment draws the run once more.
    st.fragment(repeat, run_every=max(MIN_SECONDS, MIN_UPDATES * snap.pace) if snap.active else None)()
