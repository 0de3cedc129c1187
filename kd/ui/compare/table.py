"""Stored runs as rows of the Compare page's table, and as sentences."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import streamlit as st

from kd.config.glossary import TERMS
from kd.evaluation import comparison
from kd.metrics import latency
from kd.store import runs
from kd.ui.shell.escape import cell, plain

Measures = Mapping[str, Mapping[str, Any]]  # run id -> its measurements

_PERCENT = st.column_config.NumberColumn(format="percent")
NUMBERS = {
    "ms": ("%.3g", "Milliseconds per batch, median."),
    "± ms": ("%.2g", "Half the interquartile range."),
    "images/s": ("%d", None),
    "ONNX ms": ("%.3g", "Median for the exported file in ONNX Runtime, normalization included."),
    "± ONNX ms": ("%.2g", "Half the interquartile range."),
    "× teacher's speed": (
        "%.1f",
        "The teacher's latency divided by the student's, each in its fastest form. Empty if its range is too "
        "wide to say.",
    ),
    "points lost": ("%.2f", "Test accuracy lost against the teacher, in percentage points."),
    "weights": ("localized", None),
    "multiplications": ("compact", "To classify one image."),
    "file KB": ("%d", "Size on disk as safetensors."),
    "memory KB": ("%d", "Weights plus the largest input and output of one layer, per image."),
    "control": ("percent", TERMS["control"]),
    "agreement": ("percent", TERMS["fidelity"]),
    "ECE": ("percent", TERMS["ECE"]),
}
COLUMNS = dict.fromkeys(("accuracy", "± 95%"), _PERCENT) | {
    name: st.column_config.NumberColumn(format=form, help=help) for name, (form, help) in NUMBERS.items()
}


def row(run: runs.Run, measures: Mapping[str, Any] | None, batch: int, threads: int) -> dict[str, Any]:
    """Return a row of the table. Sizes and accuracies are known; times that were not measured are empty."""
    role, facts = run.models[0], comparison.known(run)
    settings, tested = run.config.to_dict(), run.measures["models"]
    model = measures["models"][role] if measures else {}
    took = comparison.latency(model, batch, threads) if model else None
    exported = comparison.latency(model, batch, threads, latency.ONNX) if model else None
    worth = comparison.verdict(measures, batch, threads) if measures else None
    interval = facts["interval"]
    return {
        "run": cell(run.name),
        "network": run.architecture,
        "method": settings.get("method", run.about.taught_by),
        "T": settings.get("temperature"),
        "accuracy": tested[role]["test_accuracy"],
        "± 95%": (interval[1] - interval[0]) / 2 if interval else None,
        "control": facts["control"],
        "ms": 1e3 * took["median"] if took else None,
        "± ms": 500 * took["iqr"] if took else None,
        "images/s": took["images_per_second"] if took else None,
        "ONNX ms": 1e3 * exported["median"] if exported else None,
        "± ONNX ms": 500 * exported["iqr"] if exported else None,
        "× teacher's speed": worth["faster"] if worth and worth["clear"] else None,
        "× from, to": _range(worth) if worth else None,
        "points lost": facts["points"],
        "weights": facts["parameters"],
        "multiplications": facts["macs"],
        "file KB": _kilobytes(facts["file_bytes"]),
        "memory KB": _kilobytes(facts["memory"]),
        "agreement": tested[role].get("agreement"),
        "ECE": model.get("ece"),
        "epochs": run.config.epochs,
        "seed": settings.get("seed"),
        "data": run.measures.get("source", ""),
    }


def _range(worth: Mapping[str, float]) -> str:
    return f"{worth['low']:.1f} to {worth['high']:.1f}"


def _kilobytes(count: int | None) -> float | None:
    return None if count is None else round(count / 1024, 1)


def gains(stored: list[runs.Run], measured: Measures, batch: int, threads: int) -> list[str]:
    """Return sentences on the most accurate student that is faster, and the fastest that lose little.

    They only mention students that are clearly faster than their teachers.
    """
    named = {run.id: f"**{run.architecture}** ({plain(run.name)})" for run in stored}
    worth = {
        id: verdict
        for id in measured
        if id in named
        and (verdict := comparison.verdict(measured[id], batch, threads))
        and verdict["clear"]
        and verdict["faster"] > 1
    }
    if not worth:
        return []
    best = min(worth, key=lambda id: (max(worth[id]["points"], 0), -worth[id]["faster"]))
    gain = worth[best]
    sentences = [
        f"{named[best]} takes **{gain['less_time']:.0%} less time** than its teacher, "
        f"{gain['faster']:.1f} times as fast ({_range(gain)}), for **{gain['points']:.2f} points** of "
        f"accuracy, and is {gain['smaller']:.2g} times smaller. "
        f"The article that inspired this app reports {comparison.ARTICLE}."
    ]
    for points, (id, gain) in comparison.bargains(measured, batch, threads).items():
        if id in worth:
            sentences.append(
                f"The fastest that loses at most **{points:g} point{'s' if points > 1 else ''}**: "
                f"{named[id]}, **{gain['faster']:.1f} times** as fast ({_range(gain)}), "
                f"{gain['points']:.2f} points lost."
            )
    return sentences


def latencies(measures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return all latencies of one run's networks, once for networks of one architecture."""
    roles: dict[str, list[str]] = {}
    for role, model in measures["models"].items():
        roles.setdefault(model["architecture"], []).append(role)
    return [
        {
            "network": ", ".join(same),
            "images at once": timing["batch"],
            "threads": timing["threads"],
            "runtime": timing["runtime"],
            "ms": 1e3 * timing["median"],
            "± ms": 500 * timing["iqr"],
            "images/s": timing["images_per_second"],
            "fastest form": timing["form"],
        }
        for same in roles.values()
        for timing in measures["models"][same[0]]["latency"]
    ]


def differing_settings(pair: list[runs.Run]) -> list[dict[str, str]]:
    """Return the settings in which any of the runs differ, one column per run."""
    settings = {f"{place}. {run.name}": run.config.to_dict() for place, run in enumerate(pair, 1)}
    labels = {
        spec.name: spec.metadata.get("label", spec.name)
        for run in pair
        for spec in dataclasses.fields(run.config)
    }
    return [
        {
            "setting": labels.get(key, key),
            **{name: str(values.get(key, "")) for name, values in settings.items()},
        }
        for key in comparison.differences(*settings.values())
    ]
