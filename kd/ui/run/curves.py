"""Loss and accuracy of a run, updated while it trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from kd.config.kinds import KINDS
from kd.figures import training
from kd.jobs.snapshot import Snapshot
from kd.ui.charts import feed
from kd.ui.charts.chart import live_charts, packed
from kd.ui.run import progress, teachers
from kd.ui.shell import shared


def show(snap: Snapshot, label: str = "", previous: Snapshot | None = None) -> None:
    """Show loss and accuracy, updated in place.

    Args:
        label: appended to their titles.
        previous: an earlier run, whose accuracy stays faintly behind that of ``snap``.
    """
    before = previous.id if previous else ""
    live_charts(_charts_once(snap.id, snap.version, _level(snap), label, before, snap, previous), "charts")


def feed_message(snap: Snapshot, **more: str) -> bytes:
    """Return the feed message of a run: its progress and charts, the same for all spectators."""
    share, text = progress.line(snap)
    news = {
        "version": snap.version,
        "state": f"{snap.state}, saved" if snap.saved else snap.state,
        "every": snap.pace,
        "progress": {"share": share, "text": text},
    }
    return _charts(snap, _level(snap), "", news | more)


def follow(snap: Snapshot) -> None:
    """Show progress and charts of a run that somebody else controls.

    The browser fetches updates from the live feed itself; when the run changes state, the fragment reruns.
    """
    live_charts(feed_message(snap, follow=feed.address(snap.id)), "charts", on_turn=lambda: None)


def _charts(
    snap: Snapshot,
    teacher_accuracy: float | None,
    label: str,
    news: Mapping[str, Any] | None = None,
    before: training.Rows = (),
) -> bytes:
    """Pack both charts for the browser."""
    shown = [c for c in snap.changes if not snap.rows or c[0] <= snap.rows[-1]["step"]]
    last = snap.rows[-1] if snap.rows else {}
    accuracies = training.last_accuracies(snap.rows)
    losses = ", ".join(
        f"{key.removeprefix('loss ')} {value:.3g}"
        for key, value in last.items()
        if key.startswith("loss ") and value
    )
    behind = f" The previous run: {training.last_accuracies(before)}." if before else ""
    epochs = snap.config.total_epochs
    loss, accuracy = (
        training.loss(snap.rows, epochs, shown),
        training.accuracy(snap.rows, epochs, shown, teacher_accuracy, before),
    )
    for figure in (loss, accuracy):
        figure["layout"]["title"]["text"] += label
    return packed(
        {
            "chart_loss": (
                loss,
                f"Loss of each model over {epochs} epochs{label}: {losses or 'nothing measured yet'}.",
            ),
            "chart_accuracy": (
                accuracy,
                f"Accuracy on validation images{label}: {accuracies or 'nothing measured yet'}.{behind}",
            ),
        },
        news,
    )


@st.cache_resource(max_entries=64, show_spinner=False)
def _charts_once(
    run_id: str,
    version: int,
    teacher_accuracy: float | None,
    label: str,
    previous_id: str,
    _snap: Snapshot,
    _previous: Snapshot | None,
) -> bytes:
    """Pack both charts, once for all viewers of the run."""
    return _charts(_snap, teacher_accuracy, label, before=_previous.rows if _previous else ())


def _level(snap: Snapshot) -> float | None:
    """Return the teacher's accuracy if the charts show it, otherwise None."""
    kind = KINDS[snap.kind]
    if not (kind.replay and kind.has_teacher):
        return None
    return teachers.accuracy(teachers.find(snap.config.teacher).name, shared.manager().source.mnist().source)
