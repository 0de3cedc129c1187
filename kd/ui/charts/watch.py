"""Redraw the part of a page that shows a run while the run is active."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from kd.jobs.snapshot import GLANCE, Snapshot
from kd.ui.shell import shared, visitor
from kd.ui.shell.error_boundary import plainly

ANEW = 5.0  # seconds, at least, between two adjustments of the pace
CROWD = 6  # looks, at least, between two adjustments of the pace


def watch(snap: Snapshot, show: Callable[[], None], followed: bool = False) -> None:
    """Call ``show``, and repeat it while the run is active, at the pace for its number of viewers.

    A fragment that repeats itself cannot change its own pace, so another fragment around it does, less often.

    Args:
        followed: whether the browser follows the run by itself, by the live feed. Then ``show`` is called
            only every ``GLANCE`` seconds, so that the server knows who watches.
    """
    if followed:
        st.fragment(plainly()(show), run_every=GLANCE)()
        return

    def repeat() -> None:
        now = shared.manager().snapshot(snap.id, visitor.token()) if snap.active else None
        st.fragment(plainly()(show), run_every=now.pace if now else None)()

    # Less often in a crowd, since each adjustment shows the run once more.
    st.fragment(repeat, run_every=max(ANEW, CROWD * snap.pace) if snap.active else None)()
