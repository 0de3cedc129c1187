"""Stored runs as plain data and as text: what they are, and what they measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kd.store import checkpoints, runs


def summary(run: runs.Run) -> dict[str, Any]:
    """Return what a run is and how accurate its networks are, as a JSON-ready dict.

    ``networks`` are the stored ones; ``models`` holds the test scores of these and of the teacher.
    """
    return {
        "id": run.id,
        "name": run.name,
        "kind": run.kind,
        "state": run.state,
        "created": run.created,
        "message": run.message,
        "pinned": run.pinned,
        "architecture": run.architecture,
        "networks": list(run.models),
        "source": run.measures.get("source"),
        "models": {
            role: {key: scores[key] for key in ("test_accuracy", "test_errors", "agreement")}
            for role, scores in run.measures.get("models", {}).items()
        },
        "folder": str(run.folder),
    }


def details(run: runs.Run) -> dict[str, Any]:
    """Return the summary of a run with its settings and all that it measured, as a JSON-ready dict."""
    return summary(run) | {"settings": run.config.to_dict(), "measures": dict(run.measures)}


def interrupted(kept: checkpoints.Checkpoint) -> dict[str, Any]:
    """Return what is known of an interrupted run, as a JSON-ready dict."""
    return {
        "id": kept.id,
        "name": kept.about.default_name(kept.config),
        "kind": kept.kind,
        "state": "interrupted",
        "saved": kept.saved,
        "kept": kept.about.kept(kept.rows),
    }


def table(stored: Sequence[runs.Run], unfinished: Sequence[checkpoints.Checkpoint]) -> str:
    """Return one line for each stored run, and for each interrupted one, under a line of headings."""
    roles = ("student", "control", "teacher")
    lines = [
        f"{'run':34}{'kind':10}{'state':13}{'when':18}" + "".join(f"{role:>9}" for role in roles) + "  name"
    ]
    for kept in unfinished:
        about = interrupted(kept)
        start = f"{kept.id:34}{kept.kind:10}{'interrupted':13}{_minute(kept.saved):18}"
        lines.append(f"{start}{'':27}  {about['name']}, {about['kept']} kept")
    for run in stored:
        scores = run.measures.get("models", {})
        accuracies = [f"{scores[role]['test_accuracy']:.2%}" if role in scores else "" for role in roles]
        start = f"{run.id:34}{run.kind:10}{run.state:13}{_minute(run.created):18}"
        lines.append(start + "".join(f"{accuracy:>9}" for accuracy in accuracies) + f"  {run.name}")
    return "\n".join(lines)


def text(run: runs.Run) -> str:
    """Return what a run is and its settings, one to a line."""
    facts = {
        "name": run.name,
        "id": run.id,
        "kind": run.kind,
        "state": run.state + (", pinned" if run.pinned else ""),
        "created": _minute(run.created),
        "message": run.message,
        "network": run.architecture,
        "stored": ", ".join(run.models),
        "folder": str(run.folder),
    }
    settings = {name.replace("_", " "): value for name, value in run.config.to_dict().items()}
    lines = [f"{name:22}{value}" for name, value in facts.items() if value]
    return "\n".join([*lines, "", *(f"{name:22}{_setting(value)}" for name, value in settings.items())])


def _minute(moment: str) -> str:
    return moment[:16].replace("T", " ")


def _setting(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
