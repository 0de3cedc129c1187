"""Figures that compare stored runs, as plain dicts like those of kd.figures.base.

Names are escaped, because Plotly interprets some HTML in texts.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from kd.data.task import MNIST
from kd.evaluation.comparison import ParetoPoint, frontier
from kd.figures.averaging import averaged
from kd.figures.base import COLOURS, DASHES, SYMBOLS, Figure, Rows, base, line, log_ticks, over_epochs, thin

#: The colours of runs that are compared: the first two for a pair, the rest for further runs.
PAIR = ("#E8590C", "#0E9F6E", "#8B5CF6", "#DB2777")


def pareto(points: Sequence[ParetoPoint], batch: int) -> Figure:
    """Plot test accuracy against latency, with the Pareto front.

    Args:
        points: networks; a marker's area is proportional to the network's size in bytes.
        batch: images per batch, for the axis title.
    """
    best = frontier(points)
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "Pareto front",
            "x": [1e3 * point.seconds for point in best],
            "y": [point.accuracy for point in best],
            "line": {"color": "#9CA3AF", "width": 1.5, "dash": "dot", "shape": "hv"},
            "hoverinfo": "skip",
            "showlegend": False,
        }
    ]
    largest = max((point.bytes for point in points), default=1)
    for role in ("teacher", "student", "control"):
        same_role = [point for point in points if point.role == role]
        if not same_role:
            continue
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": role,
                "x": [1e3 * point.seconds for point in same_role],
                "y": [point.accuracy for point in same_role],
                "error_x": {
                    "type": "data",
                    "array": [500 * point.iqr for point in same_role],
                    "thickness": 1,
                    "width": 0,
                    "color": COLOURS[role],
                },
                "text": [f"{html.escape(point.name)}, {point.bytes / 1024:,.0f} KB" for point in same_role],
                "marker": {
                    "color": COLOURS[role],
                    "symbol": SYMBOLS[role],
                    "size": [max(6.0, round(44 * (point.bytes / largest) ** 0.5, 1)) for point in same_role],
                    "opacity": 0.75,
                    "line": {"width": 1, "color": COLOURS[role]},
                },
                "customdata": [500 * point.iqr for point in same_role],
                "hovertemplate": "%{text}<br>%{x:.3g} ± %{customdata:.2g} ms, %{y:.2%}<extra>"
                + role
                + "</extra>",
            }
        )
    layout = base("Accuracy and latency")
    # A large marker would reach into the title.
    layout["legend"] = layout["legend"] | {"itemsizing": "constant"}
    layout |= {
        "height": 400,
        "hovermode": "closest",
        "xaxis": {
            "type": "log",
            "title": {"text": f"latency of {batch} image{'s' if batch > 1 else ''}, ms"},
            **log_ticks([1e3 * point.seconds for point in points]),
        },
        "yaxis": {"tickformat": ".1%", "title": {"text": "test accuracy"}},
    }
    return {"data": traces, "layout": layout}


def overlaid(curves: Mapping[str, tuple[Rows, float]], learner: str = "student") -> Figure:
    """Plot several runs' validation accuracy at the ends of epochs, each with its control (dotted).

    Args:
        curves: run name -> its rows of metrics and its number of epochs.
        learner: the network to show besides the control.
    """
    traces = []
    for (name, (rows, _)), colour in zip(curves.items(), PAIR):
        ends = [row for row in rows if row.get("whole_validation")]
        for role in (learner, "control"):
            values = [row.get(f"validation {role}") for row in ends]
            if all(value is None for value in values):
                continue
            label, width = (html.escape(name), 2.5) if role == learner else (f"its {role}", 1.5)
            trace = line(ends, values, label, role, "%{y:.2%}")
            trace["line"] = {"color": colour, "dash": DASHES[role], "width": width}
            trace["mode"] = "lines+markers"
            traces.append(trace)
    epochs = max((epochs for _, epochs in curves.values()), default=1)
    layout = over_epochs("Validation accuracy", epochs, [], ())
    # The legend is below the chart, since names may take several lines.
    layout |= {"legend": layout["legend"] | {"y": -0.4, "yanchor": "top"}, "height": layout["height"] + 80}
    layout["yaxis"] = {"tickformat": ".1%"}
    return {"data": traces, "layout": layout}


def article(teacher: Rows, student: Rows) -> tuple[Figure, Figure]:
    """Plot the training loss and the validation accuracy of a teacher and a student by epoch."""
    figures = []
    for title, key, form in (
        ("Training loss", "loss", "%{y:.4f}"),
        ("Validation accuracy", "validation", "%{y:.2%}"),
    ):
        traces = []
        for role, rows in (("teacher", teacher), ("student", student)):
            ends = thin([row for row in _by_epoch(rows) if row.get("whole_validation")])
            if key == "loss":
                values: list[float | None] = [
                    sum(value for name, value in row.items() if name.startswith(f"loss {role}"))
                    for row in ends
                ]
            else:
                values = [row.get(f"validation {role}") for row in ends]
            traces.append(line(ends, values, role, role, form) | {"mode": "lines+markers"})
        epochs = max([row["epoch"] for rows in (teacher, student) for row in rows], default=1)
        layout = over_epochs(title, epochs, [], ())
        layout["yaxis"] = (
            {"type": "log", **log_ticks([value for trace in traces for value in trace["y"]])}
            if key == "loss"
            else {"tickformat": ".1%"}
        )
        figures.append({"data": traces, "layout": layout})
    return figures[0], figures[1]


def _by_epoch(rows: Rows) -> Rows:
    """Return the rows with losses that are means over an epoch: a live run's records cover less."""
    per_epoch = next(
        (round(row["step"] / row["epoch"]) for row in rows if row.get("epoch") and "step" in row), None
    )
    return averaged(rows, "loss ", per_epoch)


def confusion(counts: Sequence[Sequence[int]], role: str) -> Figure:
    """Plot a network's confusion matrix: counts (10, 10), rows are true classes, columns predictions.

    The diagonal is written but not coloured, because it would outshine the errors.
    """
    names = list(MNIST.class_names)
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
        "colorscale": [[0, "rgba(232, 89, 12, 0.08)"], [1, COLOURS[role]]],
        "showscale": False,
        "xgap": 1,
        "ygap": 1,
        "hoverongaps": False,
        "hovertemplate": "digit %{y} classified as %{x}: %{z}<extra></extra>",
    }
    layout = base(f"Confusion matrix of the {role}")
    layout |= {
        "height": 380,
        "hovermode": "closest",
        "xaxis": {"type": "category", "title": {"text": "prediction"}, "fixedrange": True, "showgrid": False},
        "yaxis": {
            "type": "category",
            "title": {"text": "digit"},
            "fixedrange": True,
            "autorange": "reversed",
            "showgrid": False,
        },
    }
    return {"data": [cells], "layout": layout}
