"""Figures of a search, as plain dicts like those of kd.figures.base."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from typing import Any

from kd.config.kind import short
from kd.figures.base import COLOURS, Figure, base


def history(study: Mapping[str, Any]) -> Figure:
    """Plot each trial's validation accuracy, with the best so far as a line; pruned trials are hollow.

    Args:
        study: the trials and the config, as kd.sweeps.search.Trials.summary returns them.
    """
    traces: list[dict[str, Any]] = []
    # Leave out the worst quarter: a failed trial would leave no room for values close to the best.
    values = sorted(trial["value"] for trial in study["trials"] if trial["value"] is not None)
    margin = max(0.002, (values[-1] - values[len(values) // 4]) * 0.15) if values else 0.0
    low, high = (max(0, values[len(values) // 4] - margin), min(1, values[-1] + margin)) if values else (0, 1)
    ended = [trial for trial in study["trials"] if trial["state"] == "complete"]
    best = [
        (trial["number"] + 1, so_far)
        for trial, so_far in zip(ended, accumulate((trial["value"] for trial in ended), max))
        if so_far >= low
    ]
    traces.append(
        {
            "type": "scatter",
            "mode": "lines",
            "name": "best so far",
            "x": [number for number, _ in best],
            "y": [so_far for _, so_far in best],
            "line": {"color": COLOURS["student"], "width": 2, "shape": "hv"},
            "hoverinfo": "skip",
        }
    )
    for name, state, symbol in (
        ("complete", "complete", "circle"),
        ("pruned", "pruned", "circle-open"),
        ("running", "running", "diamond-open"),
    ):
        if state == "running" and not any(trial["state"] == state for trial in study["trials"]):
            continue
        trials = [
            trial for trial in study["trials"] if trial["state"] == state and trial["value"] is not None
        ]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": name,
                "x": [trial["number"] + 1 for trial in trials],
                "y": [trial["value"] for trial in trials],
                "marker": {"color": COLOURS["student"], "symbol": symbol, "size": 8},
                "text": [_settings(trial["params"]) for trial in trials],
                "hovertemplate": "%{text}<br>%{y:.2%}<extra></extra>",
            }
        )
    layout = base("Validation accuracy")
    # The axis shows all trials from the start, so that nothing moves while they come in.
    numbers = [trial["number"] + 1 for trial in study["trials"]]
    count = max([study.get("config", {}).get("trials", 1), *numbers])
    layout |= {
        "hovermode": "closest",
        "xaxis": {"title": {"text": "trial"}, "zeroline": False, "range": [0.5, count + 0.5]}
        | ({"dtick": 1} if count <= 12 else {}),
        "yaxis": {"tickformat": ".1%", "range": [low, high]},
    }
    return {"data": traces, "layout": layout}


def importances(study: Mapping[str, Any]) -> Figure:
    """Plot how much of the variance of the trials' accuracy each setting explains, the largest at the top."""
    shares = sorted(study["importances"].items(), key=lambda pair: pair[1])
    trace = {
        "type": "bar",
        "orientation": "h",
        "y": [short(name) if name != "temperature" else name for name, _ in shares],
        "x": [share for _, share in shares],
        "marker": {"color": COLOURS["student"]},
        "text": [f"{share:.0%}" for _, share in shares],
        "textposition": "auto",
        "hovertemplate": "%{y}: %{x:.1%}<extra></extra>",
        "showlegend": False,
    }
    layout = base("Importance: share of the accuracy's variance")
    layout |= {
        "hovermode": "closest",
        "xaxis": {"tickformat": ".0%", "rangemode": "tozero"},
        "yaxis": {"automargin": True},
    }
    return {"data": [trace], "layout": layout}


def _settings(params: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{short(name)} {value:.3g}" if isinstance(value, float) else str(value)
        for name, value in params.items()
    )
