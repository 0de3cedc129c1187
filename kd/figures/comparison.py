"""Figures of stored runs against each other, as plain dicts like those of kd.figures.training. Names are escaped: Plotly reads some HTML in texts."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from kd.evaluation.comparison import Point, frontier
from kd.figures.training import (
    COLOURS,
    DASHES,
    SYMBOLS,
    Figure,
    Rows,
    base,
    line,
    log_ticks,
    over_epochs,
    thin,
)

#: Two runs beside each other, and more than two.
PAIR = ("#E8590C", "#0E9F6E", "#8B5CF6", "#DB2777")


def pareto(points: Sequence[Point], batch: int) -> Figure:
    """Test accuracy against the time for a batch; a mark's area is the size in bytes, and a line joins those that none beats."""
    best = frontier(points)
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "none beats these",
            "x": [1e3 * point.seconds for point in best],
            "y": [point.accuracy for point in best],
            "line": {"color": "#9CA3AF", "width": 1.5, "dash": "dot", "shape": "hv"},
            "hoverinfo": "skip",
            "showlegend": False,
        }
    ]
    largest = max((point.bytes for point in points), default=1)
    for role in ("teacher", "student", "control"):
        mine = [point for point in points if point.role == role]
        if not mine:
            continue
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": role,
                "x": [1e3 * point.seconds for point in mine],
                "y": [point.accuracy for point in mine],
                "error_x": {
                    "type": "data",
                    "array": [500 * point.iqr for point in mine],
                    "thickness": 1,
                    "width": 0,
                    "color": COLOURS[role],
                },
                "text": [f"{html.escape(point.name)}, {point.bytes / 1024:,.0f} KB" for point in mine],
                "marker": {
                    "color": COLOURS[role],
                    "symbol": SYMBOLS[role],
                    "size": [max(6.0, round(44 * (point.bytes / largest) ** 0.5, 1)) for point in mine],
                    "opacity": 0.75,
                    "line": {"width": 1, "color": COLOURS[role]},
                },
                "hovertemplate": "%{text}<br>%{x:.3g} ms, %{y:.2%}<extra>" + role + "</extra>",
            }
        )
    layout = base("Accuracy against time")
    layout["legend"] = layout["legend"] | {
        "itemsizing": "constant"
    }  # a large mark would reach into the title
    layout |= {
        "height": 400,
        "hovermode": "closest",
        "xaxis": {
            "type": "log",
            "title": {"text": f"milliseconds for {batch} image{'s' if batch > 1 else ''}"},
            **log_ticks([1e3 * point.seconds for point in points]),
        },
        "yaxis": {"tickformat": ".1%", "title": {"text": "test accuracy"}},
    }
    return {"data": traces, "layout": layout}


def overlaid(curves: Mapping[str, tuple[Rows, float]], who: str = "student") -> Figure:
    """Validation accuracy at the ends of epochs of several runs (name -> rows and epochs) over each other, each with its control, dotted."""
    traces = []
    for (name, (rows, _)), colour in zip(curves.items(), PAIR):
        ends = [row for row in rows if row.get("whole_validation")]
        for role in (who, "control"):
            values = [row.get(f"validation {role}") for row in ends]
            if any(value is not None for value in values):
                trace = line(
                    ends, values, html.escape(name) if role == who else f"its {role}", role, "%{y:.2%}"
                )
                traces.append(
                    trace
                    | {
                        "line": {"color": colour, "dash": DASHES[role], "width": 2.5 if role == who else 1.5},
                        "mode": "lines+markers",
                    }
                )
    epochs = max((epochs for _, epochs in curves.values()), default=1)
    layout = over_epochs("Accuracy on validation images", epochs, [], ())
    # Below, since names may take several lines.
    layout |= {"legend": layout["legend"] | {"y": -0.4, "yanchor": "top"}, "height": layout["height"] + 80}
    layout["yaxis"] = {"tickformat": ".1%"}
    return {"data": traces, "layout": layout}


def article(teacher: Rows, student: Rows) -> tuple[Figure, Figure]:
    """Teacher and student by epoch: the training loss of each, and its accuracy on validation images."""
    found = []
    for title, key, form in (
        ("Training loss", "loss", "%{y:.4f}"),
        ("Accuracy on validation images", "validation", "%{y:.2%}"),
    ):
        traces = []
        for who, rows in (("teacher", thin(teacher)), ("student", thin(student))):
            ends = [row for row in rows if row.get("whole_validation")]
            if key == "loss":
                values: list[float | None] = [
                    sum(value for name, value in row.items() if name.startswith(f"loss {who}"))
                    for row in ends
                ]
            else:
                values = [row.get(f"validation {who}") for row in ends]
            traces.append(line(ends, values, who, who, form) | {"mode": "lines+markers"})
        epochs = max([row["epoch"] for rows in (teacher, student) for row in rows], default=1)
        layout = over_epochs(title, epochs, [], ())
        layout["yaxis"] = (
            {"type": "log", **log_ticks([value for trace in traces for value in trace["y"]])}
            if key == "loss"
            else {"tickformat": ".1%"}
        )
        found.append({"data": traces, "layout": layout})
    return found[0], found[1]


def confusion(counts: Sequence[Sequence[int]], who: str) -> Figure:
    """What a network says of each digit: counts (10, 10). The right ones are written, not coloured: they would outshine the rest."""
    names = [str(digit) for digit in range(10)]
    wrong = [
        [None if a == b or not value else value for b, value in enumerate(row)]
        for a, row in enumerate(counts)
    ]
    cells = {
        "type": "heatmap",
        "x": names,
        "y": names,
        "z": wrong,
        "text": [[str(value or "") for value in row] for row in counts],
        "texttemplate": "%{text}",
        "textfont": {"color": "ink"},
        "zmin": 0,
        "colorscale": [[0, "rgba(232, 89, 12, 0.08)"], [1, COLOURS[who]]],
        "showscale": False,
        "xgap": 1,
        "ygap": 1,
        "hoverongaps": False,
        "hovertemplate": "a %{y} read as %{x}: %{z}<extra></extra>",
    }
    layout = base(f"What the {who} says of each digit")
    layout |= {
        "height": 380,
        "hovermode": "closest",
        "xaxis": {"type": "category", "title": {"text": "said"}, "fixedrange": True, "showgrid": False},
        "yaxis": {
            "type": "category",
            "title": {"text": "digit"},
            "fixedrange": True,
            "autorange": "reversed",
            "showgrid": False,
        },
    }
    return {"data": [cells], "layout": layout}
