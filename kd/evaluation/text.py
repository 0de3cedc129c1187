"""Compared runs as plain text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from kd.evaluation.comparison import bargains, known, latency, verdict
from kd.metrics.latency import ONNX, PYTORCH
from kd.store import runs

_COLUMNS = (  # heading, width
    ("accuracy", 9),
    ("control", 9),
    ("teacher", 9),
    ("points", 8),
    ("images", 8),
    ("threads", 8),
    ("ms", 16),
    ("teacher ms", 16),
    ("faster", 14),
    ("ONNX ms", 16),
)


def table(measured_runs: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a table of the measured students (run id -> measures), each compared with its teacher."""
    lines = [f"{'run':34}{'student':16}" + "".join(f"{head:>{width}}" for head, width in _COLUMNS)]
    for id, measures in measured_runs.items():
        for row in measures["models"].get("student", {}).get("latency", []):
            result = verdict(measures, row["batch"], row["threads"])
            if row["runtime"] == PYTORCH and result is not None:
                lines.append(_line(id, measures["models"], row, result))
    conditions = {
        (row["batch"], row["threads"])
        for measures in measured_runs.values()
        for model in measures["models"].values()
        for row in model["latency"]
    }
    for batch, threads in sorted(conditions):
        for price, (id, result) in bargains(measured_runs, batch, threads).items():
            name = measured_runs[id]["models"]["student"]["architecture"]
            lines.append(
                f"{_count(batch, 'image')}, {_count(threads, 'thread')}, at most "
                f"{price:g} point{'s' if price > 1 else ''}: "
                f"{name} ({_range(result)} for {result['points']:.2f})"
            )
    lines.append(
        "Each network in its fastest form; medians of alternating rounds, +- half the interquartile range. "
        "A ? marks a speedup that is not clear: its range is wide, or includes 1. "
        "Accuracies are on the test set, which was not used to choose anything."
    )
    return "\n".join(lines)


def _line(id: str, models: Mapping[str, Any], row: Mapping[str, Any], result: Mapping[str, float]) -> str:
    """Return a student's line of the table for one batch size and thread count."""
    batch, threads = row["batch"], row["threads"]
    cells = [
        *(_percent(models.get(role, {}).get("test_accuracy")) for role in ("student", "control", "teacher")),
        f"{result['points']:.2f}",
        str(batch),
        str(threads),
        _milliseconds(row),
        _milliseconds(latency(models["teacher"], batch, threads)),
        _range(result) + ("" if result["clear"] else " ?"),
        _milliseconds(latency(models["student"], batch, threads, ONNX)),
    ]
    columns = "".join(f"{cell:>{width}}" for cell, (_, width) in zip(cells, _COLUMNS, strict=True))
    return f"{id:34}{models['student']['architecture']:16}{columns}"


def without_measuring(chosen: Sequence[runs.Run]) -> str:
    """Return a table of what is known about runs without measuring anything: sizes and accuracies."""
    heads = ("accuracy", "+-", "control", "teacher", "points", "weights", "multiplications", "KB")
    lines = [f"{'run':34}{'network':16}" + "".join(f"{head:>16}" for head in heads)]
    for run in chosen:
        facts = known(run)
        interval, kilobytes = facts["interval"], (facts["file_bytes"] or facts["bytes"]) / 1024
        cells = (
            _percent(facts["test_accuracy"]),
            f"{50 * (interval[1] - interval[0]):.2f}%" if interval else "",
            _percent(facts["control"]),
            _percent(facts["teacher"]),
            "" if facts["points"] is None else f"{facts['points']:.2f}",
            f"{facts['parameters']:,}",
            f"{facts['macs']:,}",
            f"{kilobytes:,.0f}",
        )
        lines.append(f"{run.id:34}{run.architecture:16}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.2%}"


def _milliseconds(row: Mapping[str, float] | None) -> str:
    return f"{1e3 * row['median']:.3f} +- {500 * row['iqr']:.3f}" if row else f"{math.nan:.3f}"


def _range(result: Mapping[str, float]) -> str:
    return f"{result['low']:.1f}-{result['high']:.1f}x"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number > 1 else ''}"
