"""Turn metrics into Plotly figures, as plain dicts of data and layout.

The dicts are plain because live charts are drawn four times a second, and Plotly's own validation
would take longer than drawing them; the tests pass each through plotly's Figure. The live chart
sets the colours of text and grid from the theme.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from kd.config.kind import short
from kd.data.task import MNIST
from kd.figures.averaging import averaged

Figure = dict[str, Any]
Rows = Sequence[Mapping[str, float]]


class Roles(dict[str, str]):
    """Map known roles to a value each, and all others (peers, assistants, generations) to ``other``."""

    def __init__(self, known: Mapping[str, str], other: str):
        super().__init__(known)
        self._other = other

    def __missing__(self, role: str) -> str:
        return self._other


#: One colour per role, everywhere, in light and dark. .streamlit/config.toml repeats them.
COLOURS = Roles({"teacher": "#3B82F6", "student": "#E8590C", "control": "#7C8594"}, other="#0E9F6E")
#: Dashes of lines and patterns of bars, so that roles differ without colour.
DASHES = Roles({"teacher": "dash", "student": "solid", "control": "dot"}, other="longdash")
PATTERNS = Roles({"teacher": "", "student": "/", "control": "."}, other="x")
SYMBOLS = {"teacher": "diamond", "student": "circle", "control": "triangle-up"}
#: Dashes of the student's loss terms, in order; the term of the labels is thinner.
TERM_DASHES = ("solid", "longdash", "longdashdot")
MAX_POINTS = 400
MAX_DOTS = 40  # markers per line: each is a node of the page
#: For the axes of live charts: measuring how much room the labels need takes longer than all the rest.
FIXED = {"automargin": False}
HEIGHT = 290


def order(role: str) -> int:
    """Return the sort key of a role: teacher, student, control, then others."""
    return next((place for place, known in enumerate(COLOURS) if known == role), len(COLOURS))


def loss(rows: Rows, epochs: float, changes: Sequence[tuple[int, str, float]] = ()) -> Figure:
    """Plot each weighted loss term over the epochs, on a logarithmic axis.

    Each point is a mean over a comparable number of batches; see kd.figures.averaging.

    Args:
        rows: the run's metrics.
        epochs: the run's length, which is the axis's range.
        changes: settings changed during training: step, name and new value.
    """
    rows = thin(averaged(rows, "loss ", breaks=[step for step, _, _ in changes]))
    traces, dashes, kept = [], itertools.cycle(TERM_DASHES), columns(rows, "loss ")
    for key in kept:
        role, term = key.removeprefix("loss ").split(" ", 1)
        values = [row.get(key) for row in rows]
        if not any(values):  # a term of weight 0 has no place on a logarithmic axis
            continue
        name = f"{role}, {term}" if role == "student" else role  # all others have one term
        traces.append(line(rows, [value or None for value in values], name, role, "%{y:.4f}"))
        if role == "student":
            traces[-1]["line"] |= (
                {"dash": "dashdot", "width": 1.5} if term == "hard" else {"dash": next(dashes)}
            )
    layout = over_epochs("Loss", epochs, rows, changes)
    layout["yaxis"] |= {
        "type": "log",
        "title": {"text": "weighted loss"},
        "dtick": 1,
        "exponentformat": "none",
    }
    if rows and not kept:
        layout["yaxis"] = {"visible": False}
        layout["annotations"] = [
            {
                "text": "This run has no stored losses",
                "showarrow": False,
                "xref": "paper",
                "yref": "paper",
                "x": 0.5,
                "y": 0.5,
            }
        ]
    return {"data": traces, "layout": layout}


def accuracy(
    rows: Rows, epochs: float, changes: Sequence[tuple[int, str, float]] = (), teacher: float | None = None
) -> Figure:
    """Plot validation accuracy over the epochs; the teacher's is a level line.

    Args:
        rows: the run's metrics.
        epochs: the run's length, which is the axis's range.
        changes: settings changed during training: step, name and new value.
        teacher: the teacher's validation accuracy, 0 to 1, or None.
    """
    rows = thin(rows)
    ends = [row for row in rows if row.get("whole_validation")]
    lines, dots = [], []
    for key in columns(rows, "validation "):
        role = key.removeprefix("validation ")
        lines.append(
            line(rows, [row.get(key) for row in rows], role, role, "%{y:.2%}") | {"legendgroup": role}
        )
        # Dots mark the ends of epochs, which are measured on all validation images. They are separate
        # traces because every marker is a node of the page, even one of size 0.
        dots.append(line(ends, [row.get(key) for row in ends], role, role, "") | {"legendgroup": role})
        dots[-1] |= {
            "mode": "markers",
            "marker": {"size": 6, "color": COLOURS[role], "maxdisplayed": MAX_DOTS},
            "showlegend": False,
            "hoverinfo": "skip",
        }
    traces = lines + dots
    if teacher is not None:
        level = {
            "x": [0, epochs],
            "y": [teacher, teacher],
            "name": "teacher",
            "mode": "lines",
            "type": "scatter",
        }
        traces.append(
            level
            | {
                "line": {"color": COLOURS["teacher"], "dash": DASHES["teacher"], "width": 2},
                "hovertemplate": "%{y:.2%}",
            }
        )
    layout = over_epochs("Validation accuracy", epochs, rows, changes)
    # With omitted digits or very few labels a model stays below the usual range.
    low = any(value < 0.8 for row in ends for key, value in row.items() if key.startswith("validation "))
    layout["yaxis"] |= {
        "range": [0.0 if low else 0.8, 1.003],
        "tickformat": ".0%",
        "title": {"text": "accuracy"},
    }
    return {"data": traces, "layout": layout}


def bars(logits: Mapping[str, Tensor], temperature: float = 1.0) -> Figure:
    """Plot each model's probabilities for one image, softmax(logits / temperature), as bars per class.

    Args:
        logits: role -> (10,) or (1, 10) logits of the image.
        temperature: the temperature T.
    """
    traces = []
    for role in sorted(logits, key=order):
        shares = torch.softmax(logits[role].reshape(-1).double() / temperature, 0)
        traces.append(
            {
                "type": "bar",
                "name": role,
                "x": list(MNIST.class_names),
                "y": [round(s, 5) for s in shares.tolist()],
                "marker": {
                    "color": COLOURS[role],
                    "pattern": {
                        "shape": PATTERNS[role],
                        "size": 6,
                        "fillmode": "overlay",
                        "fgcolor": "#FFFFFF",
                    },
                },
                "hovertemplate": "%{x}: %{y:.1%}",
            }
        )
    layout = base("")
    layout |= {
        "barmode": "group",
        "bargap": 0.2,
        "height": 260,
        "hovermode": "x unified",
        "xaxis": {
            **FIXED,
            "type": "category",
            "dtick": 1,
            "tickangle": 0,
            "title": {"text": "digit"},
            "fixedrange": True,
        },
        "yaxis": {
            **FIXED,
            "range": [0, 1],
            "tickformat": ".0%",
            "fixedrange": True,
            "title": {"text": f"probability at T={temperature:g}"},
        },
    }
    layout["margin"]["t"] = 36
    return {"data": traces, "layout": layout}


def temperatures(curve: Mapping[float, Mapping[str, Any]], control: Mapping[str, float]) -> Figure:
    """Plot test errors against temperature: mean and standard deviation over seeds.

    Args:
        curve: temperature -> mean and sd of the student's test errors.
        control: mean and sd of the control's test errors; the mean is a level line.
    """
    places = [f"{t:g}" for t in curve]
    student = {
        "type": "scatter",
        "mode": "lines+markers",
        "name": "student",
        "x": places,
        "y": [point["mean"] for point in curve.values()],
        "error_y": {
            "type": "data",
            "array": [point["sd"] for point in curve.values()],
            "color": COLOURS["student"],
        },
        "line": {"color": COLOURS["student"], "width": 2.5},
        "marker": {"size": 8},
        "hovertemplate": "%{y:.1f} errors",
    }
    level = {
        "type": "scatter",
        "mode": "lines",
        "name": "control",
        "x": places,
        "y": [control["mean"]] * len(places),
        "line": {"color": COLOURS["control"], "dash": DASHES["control"], "width": 2},
        "hovertemplate": "%{y:.1f} errors",
    }
    layout = base("Test errors of a student with 30 units")
    layout |= {
        "xaxis": {"type": "category", "title": {"text": "temperature"}},
        "yaxis": {"title": {"text": "test errors"}},
    }
    return {"data": [student, level], "layout": layout}


def last_accuracies(rows: Rows) -> str:
    """Return the latest validation accuracies as text, such as "student 98.1%, control 97.9%"."""
    last = rows[-1] if rows else {}
    return ", ".join(
        f"{key.removeprefix('validation ')} {value:.1%}"
        for key, value in last.items()
        if key.startswith("validation ")
    )


def thin(rows: Rows) -> Rows:
    """Return about MAX_POINTS of the rows, including the ends of epochs and the last row."""
    if len(rows) <= MAX_POINTS:
        return rows
    stride = -(-len(rows) // MAX_POINTS)
    return [
        row
        for i, row in enumerate(rows)
        if i % stride == 0 or row.get("whole_validation") or i == len(rows) - 1
    ]


def columns(rows: Rows, prefix: str) -> list[str]:
    """Return the columns of any row that begin with ``prefix``, in order."""
    return [key for key in dict.fromkeys(itertools.chain.from_iterable(rows)) if key.startswith(prefix)]


def line(rows: Rows, values: list[float | None], name: str, role: str, hover: str) -> dict[str, Any]:
    """Return a line over the epochs in the colour and dash of a role."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": [round(row["epoch"], 4) for row in rows],
        "y": [None if value is None else round(value, 6) for value in values],
        "line": {"color": COLOURS[role], "dash": DASHES[role], "width": 2.5 if role == "student" else 2},
        "hovertemplate": hover,
    }


def base(title: str) -> dict[str, Any]:
    """Return the layout that all figures share."""
    return {
        "title": {"text": title, "x": 0, "xanchor": "left", "font": {"size": 15}},
        "height": HEIGHT,
        "margin": {"l": 56, "r": 12, "t": 64, "b": 40},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "hovermode": "x unified",
        # The same value each time, so that updates keep zoom and hidden traces.
        "uirevision": "kept",
    }


def log_ticks(
    values: Sequence[float | None], text: Callable[[float], str] = "{:.3g}".format
) -> dict[str, Any]:
    """Return ticks for a logarithmic axis around ``values``: the smaller the range, the denser.

    With Plotly's own ticks an axis of less than a decade may have none.
    """
    shown = [value for value in values if value]
    if not shown:
        return {}
    low, high = min(shown), max(shown)
    steps = (1,) if high > 300 * low else (1, 2, 5) if high > 3.5 * low else (1, 1.5, 2, 3, 4, 5, 6, 8)
    ticks = [
        step * 10.0**power
        for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for step in steps
    ]
    return {"tickvals": ticks, "ticktext": [text(tick) for tick in ticks]}


def percent(share: float) -> str:
    """Format a fraction as per cent with three digits: 0.015 as "1.5%"."""
    return f"{100 * share:.3g}%"


def over_epochs(
    title: str, epochs: float, rows: Rows, changes: Sequence[tuple[int, str, float]]
) -> dict[str, Any]:
    """Return the layout of a figure over epochs, with a vertical line at each change of a setting."""
    layout = base(title)
    layout["xaxis"] = {**FIXED, "range": [0, epochs], "title": {"text": "epoch"}, "zeroline": False}
    layout["yaxis"] = {**FIXED}
    layout["margin"]["l"] = 64
    per_epoch = next((row["step"] / row["epoch"] for row in rows if row.get("epoch")), None)
    if per_epoch and changes:
        layout["shapes"] = [
            {
                "type": "line",
                "x0": step / per_epoch,
                "x1": step / per_epoch,
                "yref": "paper",
                "y0": 0,
                "y1": 1,
                "line": {"color": "#9CA3AF", "width": 1, "dash": "dot"},
            }
            for step, _, _ in changes
        ]
        layout["annotations"] = [
            {
                "x": step / per_epoch,
                "yref": "paper",
                "y": 0.02 + 0.1 * (i % 3),
                "yanchor": "bottom",
                "xanchor": "left",
                "showarrow": False,
                "text": f"{short(name)} → {value:g}",
                "font": {"size": 11},
            }
            for i, (step, name, value) in enumerate(changes)
        ]
    return layout
