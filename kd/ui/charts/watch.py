"""Repeating what shows a run while it goes on."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from kd.jobs.manager import GLANCE, Snapshot
from kd.ui.shell import shared, visitor
from kd.ui.shell.error_boundary import plainly

ANEW = 5.0  # seconds, at least, after which the pace is set anew
CROWD = 6  # looks, at least, after which it is


def watch(snap: Snapshot, show: Callable[[], None], followed: bool = False) -> None:
    """Calls ``show``, and while the run is under way again and again, at the pace for as many as watch it.

    A fragment that repeats itself cannot change its own pace, so another one around it does, less often. Where ``show``
    lets the browser itself follow the run, it is called only now and then: so the server knows who watches.
    """
    if followed:
        st.fragment(plainly()(show), run_every=GLANCE)()
        return

    def repeat() -> None:
        now = shared.manager().snapshot(snap.id, visitor.token()) if snap.active else None
        st.fragment(plainly()(show), run_every=now.pace if now else None)()

    # In a crowd more seldom still, since it shows the run once more each time.
    st.fragment(repeat, run_every=max(ANEW, CROWD * snap.pace) if snap.active else None)()
