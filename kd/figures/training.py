"""Figures of a training: loss and accuracy over the epochs, probabilities, errors by temperature."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from kd.data.task import MNIST
from kd.figures.averaging import averaged
from kd.figures.base import (
    COLOURS,
    DASHES,
    FIXED,
    MAX_DOTS,
    PATTERNS,
    Figure,
    Rows,
    base,
    columns,
    line,
    order,
    over_epochs,
    thin,
)

#: Dashes of the student's loss terms, in order; the term of the labels is thinner.
TERM_DASHES = ("solid", "longdash", "longdashdot")


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
    rows: Rows,
    epochs: float,
    changes: Sequence[tuple[int, str, float]] = (),
    teacher: float | None = None,
    before: Rows = (),
) -> Figure:
    """Plot validation accuracy over the epochs; the teacher's is a level line.

    Args:
        rows: the run's metrics.
        epochs: the run's length, which is the axis's range.
        changes: settings changed during training: step, name and new value.
        teacher: the teacher's validation accuracy, 0 to 1, or None.
        before: the metrics of the previous run, whose lines are drawn faintly behind this run's.
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
    traces += _behind(thin(before))
    layout = over_epochs("Validation accuracy", epochs, rows, changes)
    # With omitted digits or very few labels a model stays below the usual range.
    ends += [row for row in before if row.get("whole_validation")]
    low = any(value < 0.8 for row in ends for key, value in row.items() if key.startswith("validation "))
    layout["yaxis"] |= {
        "range": [0.0 if low else 0.8, 1.003],
        "tickformat": ".0%",
        "title": {"text": "accuracy"},
    }
    return {"data": traces, "layout": layout}


def _behind(rows: Rows) -> list[dict[str, Any]]:
    """Return the accuracies of the previous run as faint lines, without legend entries."""
    traces = []
    for key in columns(rows, "validation "):
        role = key.removeprefix("validation ")
        faint = {"opacity": 0.35, "zorder": -1, "showlegend": False, "legendgroup": role}
        values = [row.get(key) for row in rows]
        traces.append(line(rows, values, f"{role}, previous run", role, "%{y:.2%}") | faint)
    return traces


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
