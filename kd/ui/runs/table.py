"""The table of the Runs page, and the scores on a visitor's own drawings."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import streamlit as st
from torch import Tensor

from kd import paths
from kd.config.base import Settings
from kd.config.glossary import TERMS
from kd.data import digits
from kd.errors import UserError
from kd.models import inference
from kd.store import checkpoints, drawings, runs
from kd.ui.run import snapshots
from kd.ui.shell import notices, visitor
from kd.ui.shell.escape import cell


def show(
    stored: Sequence[runs.Run],
    mine: Sequence[checkpoints.Checkpoint],
    others: Sequence[checkpoints.Checkpoint],
) -> None:
    """Draw the table of all runs, and the visitor's kept drawings.

    Args:
        mine: the visitor's interrupted runs, which come first.
        others: other people's interrupted runs, which come last: only those people can do anything with them.
    """
    pictures, labels = drawings.load(visitor.token())
    percent = st.column_config.NumberColumn(format="percent")
    st.dataframe(
        [
            *map(_interrupted_row, mine),
            *(_row(run, pictures, labels) for run in stored),
            *map(_interrupted_row, others),
        ],
        hide_index=True,
        width="stretch",
        placeholder="",
        column_config={
            "student accuracy": percent,
            "control accuracy": st.column_config.NumberColumn(format="percent", help=TERMS["control"]),
            "teacher accuracy": percent,
            "your drawings": st.column_config.TextColumn(
                help="How many of your kept drawings student / control classify correctly."
            ),
        },
    )
    st.caption("Test accuracy. No setting was tuned on the test set.")
    if len(labels):
        with st.popover(f"Your {len(labels)} kept drawings"):
            st.image(
                [(255 - picture).numpy() for picture in pictures[-30:]],
                width=48,
                caption=[str(int(label)) for label in labels[-30:]],
            )
            st.button("Delete all of them", key="forget", on_click=_forget_drawings)


def when(moment: str) -> str:
    """Return an ISO 8601 time to the minute, such as "2026-01-31 12:00"."""
    return moment[:16].replace("T", " ")


def _one_temperature(config: Settings) -> float | None:
    """Return a run's temperature, or None unless it has exactly one."""
    temperature = config.to_dict().get("temperature")
    return temperature if isinstance(temperature, float) else None


def _yours(owner: str | None) -> str:
    return "✓" if owner == runs.owner_digest(visitor.token()) else ""


def _row(run: runs.Run, pictures: Tensor, labels: Tensor) -> dict[str, Any]:
    measured = run.measures.get("models", {})
    test = {name: value["test_accuracy"] for name, value in measured.items()}
    row = {
        "name": cell(run.name),
        "student": f"{run.architecture} (teacher)" if "teacher" in run.models else run.architecture,
        "method": getattr(run.config, "method", ""),
        "T": _one_temperature(run.config),
        "epochs": run.config.epochs,
        "seed": getattr(run.config, "seed", None),
        "student accuracy": test.get("student"),
        "control accuracy": test.get("control"),
        "teacher accuracy": test.get("teacher"),
        "data": run.measures.get("source", ""),
        "state": run.state,
        "when": when(run.created),
        "yours": _yours(run.owner),
    }
    if len(labels) and run.models:
        digest = hashlib.sha256(pictures.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()
        try:
            scores = [str(_score(run.id, which, digest, pictures, labels)) for which in run.models]
            row["your drawings"] = " / ".join(scores) + f" of {len(labels)}"
        except UserError as error:
            row["your drawings"] = cell(paths.without_folders(str(error)))
    return row


def _interrupted_row(kept: checkpoints.Checkpoint) -> dict[str, Any]:
    """Return the same columns as ``_row`` for an interrupted run, without final measurements."""
    return {
        "name": kept.about.default_name(kept.config),
        "student": getattr(kept.config, "student", f"{kept.config.teacher} (teacher)"),
        "method": getattr(kept.config, "method", ""),
        "T": _one_temperature(kept.config),
        "epochs": kept.config.epochs,
        "seed": getattr(kept.config, "seed", None),
        "student accuracy": None,
        "control accuracy": None,
        "teacher accuracy": None,
        "data": "",
        "state": "interrupted",
        "when": when(kept.saved),
        "yours": _yours(kept.owner),
    }


@st.cache_data(show_spinner="Scoring your drawings…", max_entries=256)
def _score(run_id: str, which: str, digest: str, _pictures: Tensor, _labels: Tensor) -> int:
    """Count the drawings that a model classifies correctly; ``digest`` identifies them in the cache."""
    logits = inference.logits_in_chunks(snapshots.stored_model(run_id, which), digits.normalize(_pictures))
    return int((logits.argmax(1) == _labels).sum())


def _forget_drawings() -> None:
    try:
        drawings.forget(visitor.token())
    except UserError as error:
        notices.notify("error", str(error))
