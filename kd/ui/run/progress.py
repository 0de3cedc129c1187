"""The progress of a run, and how it ended."""

from __future__ import annotations

import streamlit as st

from kd.config.kind import settings_line
from kd.config.kinds import KINDS
from kd.errors import UserError
from kd.jobs.queue import STOPPED
from kd.jobs.snapshot import Snapshot
from kd.store import checkpoints, runs
from kd.ui.shell import notices, session_keys, visitor


def bar(snap: Snapshot) -> None:
    """Show the run's progress as a bar with one line of text."""
    st.progress(*line(snap))


def line(snap: Snapshot) -> tuple[float, str]:
    """Return how much of the run is done, as a fraction and as a line of text."""
    last = snap.rows[-1] if snap.rows else None
    share = last["step"] / snap.steps if last and snap.steps else 0.0
    parts = []
    if snap.state == "queued":
        parts.append(
            f"Waiting: {snap.place - 1} before this one" if snap.place > 1 else "Waiting: next in line"
        )
    elif snap.state == "running" and last is None:
        parts.append("Starting…")
    if last:
        parts.append(KINDS[snap.kind].position(last["epoch"], snap.config.total_epochs))
        if snap.active:
            parts.append(f"{last['images_per_second']:,.0f} images/s")
            if snap.state == "running":
                parts.append(f"{seconds_left(snap):.0f} s left")
        else:
            parts.append(f"{last['seconds']:.1f} s of training")
            models = snap.measures.get("models", {})
            tested = [
                f"{name} {models[name]['test_accuracy']:.2%}"
                for name in ("student", "mistaken", "control", "teacher")
                if name in models
            ]
            parts.append(
                f"{'test set' if snap.source == 'full' else 'held-out images'}: {', '.join(tested)}"
                if tested
                else ""
            )
    if snap.settings and snap.active:
        parts.append(settings_line(snap.settings))
    label = {
        "running": "Training",
        "paused": "Paused",
        "done": "Finished",
        "stopped": "Stopped",
        "failed": "Failed",
        "interrupted": "Interrupted",
        "elsewhere": "Training elsewhere",
    }.get(snap.state)
    if snap.active:
        parts.append(snap.message)
    return min(1.0, share), " · ".join(filter(None, [label, *parts]))


def seconds_left(snap: Snapshot) -> float | None:
    """Estimate for how many more seconds training goes on; None before the first record."""
    if not snap.rows or not snap.steps:
        return None
    last = snap.rows[-1]
    share = last["step"] / snap.steps
    return last["seconds"] / max(share, 1e-9) * (1 - share)


def outcome(snap: Snapshot) -> None:
    """Say how the run ended, unless it simply finished or was stopped."""
    if not snap.message or snap.active or snap.message == STOPPED:
        return
    if snap.state == "failed" or "not saved" in snap.message:
        st.error(snap.message)
    elif snap.message.startswith(runs.FROM_SWEEP):
        st.caption(snap.message)
    else:
        st.warning(snap.message)


def discard_button(snap: Snapshot) -> None:
    """Draw a button that deletes an interrupted run's checkpoint, after its owner confirms it."""

    def confirmed() -> None:
        try:
            checkpoints.discard(snap.id, visitor.token())
            if st.session_state.get(session_keys.RUN) == snap.id:
                st.session_state[session_keys.RUN] = None
            notices.notify("success", "The interrupted run was discarded.")
        except UserError as error:
            notices.notify("error", str(error))

    with st.popover("Discard", icon=":material/delete:"):
        st.write("Discard this run's checkpoint? You will not be able to resume the run.")
        st.button("Discard it", key="discard", type="primary", on_click=confirmed)
