"""Figures of test accuracy against the number of labels, the share of wrong labels and spoiled digits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from kd.figures.base import COLOURS, DASHES, SYMBOLS, Figure, base

#: Learner of the label budget -> its name in the legend, its dash and its marker.
BUDGET_LINES = {
    "student": ("student: soft targets, no label", DASHES["student"], "circle"),
    "control": ("control: images shifted", DASHES["control"], "triangle-up"),
    "augmented control": ("control: also turned and scaled", "dashdot", "square"),
}


def label_budget(
    curves: Mapping[str, list[Mapping[str, Any]]], under_way: tuple[str, float, float] | None, most: int
) -> Figure:
    """Plot test accuracy against the number of labels: mean and standard deviation over the seeds.

    Args:
        curves: learner -> points, as kd.experiments.study.curves returns them.
        under_way: learner, labels and accuracy so far of the training in progress, or None.
        most: the number of labels that exist.
    """
    traces: list[dict[str, Any]] = []
    for role, (name, dash, symbol) in BUDGET_LINES.items():
        colour = COLOURS["student" if role == "student" else "control"]
        points = curves.get(role, [])
        if role == "student" and points:  # it needs no labels, so its line is level
            points = [{**points[0], "value": value} for value in (10, most)]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers" if role != "student" else "lines",
                "name": name,
                "x": [point["value"] for point in points],
                "y": [round(point["mean"], 5) for point in points],
                "error_y": {
                    "type": "data",
                    "array": [round(point["sd"], 5) for point in points],
                    "color": colour,
                    "thickness": 1.5,
                },
                "line": {"color": colour, "dash": dash, "width": 2.5 if role == "student" else 2},
                "marker": {"size": 8, "symbol": symbol},
                "hovertemplate": "%{y:.2%}",
            }
        )
    if under_way is not None:
        role, labels, share = under_way
        colour, symbol = COLOURS["student" if role == "student" else "control"], BUDGET_LINES[role][2]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": "training now",
                "x": [labels or most],
                "y": [round(share, 5)],
                "showlegend": False,
                "marker": {"size": 11, "symbol": f"{symbol}-open", "color": colour, "line": {"width": 2}},
                "hovertemplate": "%{y:.2%}",
            }
        )
    layout = base("")
    ticks = [10, 100, 1_000, 10_000, *([most] if most > 20_000 else [])]
    layout |= {
        "height": 380,
        "xaxis": {
            "type": "log",
            "range": [0.9, math.log10(most) + 0.1],
            "tickvals": ticks,
            "ticktext": [f"{tick:,}" for tick in ticks],
            "title": {"text": "labels"},
        },
        "yaxis": {"range": [0.3, 1.01], "tickformat": ".0%", "title": {"text": "test accuracy"}},
    }
    layout["margin"]["t"] = 76  # on a narrow screen the legend takes several lines
    return {"data": traces, "layout": layout}


def severity(shares: Mapping[str, list[float]], levels: list[float], unit: str, corruption: str) -> Figure:
    """Plot each model's test accuracy against the severity of a corruption.

    Args:
        shares: role -> test accuracy at each level, 0 to 1.
        levels: severities, in ``unit``.
        unit: the unit of the severities.
        corruption: the corruption's name, for the title.
    """
    traces = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": role,
            "x": levels,
            "y": [round(share, 5) for share in values],
            "line": {"color": COLOURS[role], "dash": DASHES[role], "width": 2.5 if role == "student" else 2},
            "marker": {"size": 7, "symbol": SYMBOLS[role]},
            "hovertemplate": "%{y:.1%}",
        }
        for role, values in shares.items()
    ]
    layout = base(f"Accuracy on {corruption} test digits")
    layout |= {
        "height": 340,
        "xaxis": {"tickvals": levels, "title": {"text": f"severity, {unit}"}, "fixedrange": True},
        "yaxis": {
            "range": [0, 1.02],
            "tickformat": ".0%",
            "title": {"text": "accuracy"},
            "fixedrange": True,
        },
    }
    return {"data": traces, "layout": layout}


def wrong_labels(
    curves: Mapping[str, list[Mapping[str, Any]]], under_way: Mapping[str, tuple[float, float]]
) -> Figure:
    """Plot test accuracy against the share of wrong labels: mean and standard deviation over the seeds.

    Args:
        curves: learner -> points, as kd.experiments.study.curves returns them.
        under_way: learner -> share of wrong labels and accuracy so far of the training in progress.
    """
    traces: list[dict[str, Any]] = []
    for role in ("student", "control"):
        points = curves.get(role, [])
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": role,
                "x": [point["value"] for point in points],
                "y": [round(point["mean"], 5) for point in points],
                "error_y": {
                    "type": "data",
                    "array": [round(point["sd"], 5) for point in points],
                    "color": COLOURS[role],
                    "thickness": 1.5,
                },
                "line": {
                    "color": COLOURS[role],
                    "dash": DASHES[role],
                    "width": 2.5 if role == "student" else 2,
                },
                "marker": {"size": 8, "symbol": SYMBOLS[role]},
                "hovertemplate": "%{y:.2%}",
            }
        )
    for role, (value, share) in under_way.items():
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": f"{role}, training now",
                "x": [value],
                "y": [round(share, 5)],
                "showlegend": False,
                "marker": {
                    "size": 11,
                    "symbol": f"{SYMBOLS[role]}-open",
                    "color": COLOURS[role],
                    "line": {"width": 2},
                },
                "hovertemplate": "%{y:.2%}",
            }
        )
    layout = base("Test accuracy")
    low = min((point["mean"] for curve in curves.values() for point in curve), default=1.0)
    layout |= {
        "height": 360,
        "xaxis": {"range": [-0.02, 0.62], "tickformat": ".0%", "title": {"text": "wrong labels"}},
        "yaxis": {
            "range": [0.8 if low > 0.82 else 0.0, 1.003],
            "tickformat": ".0%",
            "title": {"text": "accuracy"},
        },
    }
    return {"data": traces, "layout": layout}
