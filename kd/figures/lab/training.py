"""Figures of a training over its epochs: fidelity, calibration and the effects of a mistake."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from kd.figures.averaging import averaged
from kd.figures.base import (
    COLOURS,
    DASHES,
    SYMBOLS,
    Figure,
    Rows,
    base,
    line,
    log_ticks,
    over_epochs,
    percent,
    thin,
)


def fidelity(rows: Rows, epochs: float, what: str, title: str, share: bool) -> Figure:
    """Plot a measure of student and control over the epochs, on a logarithmic axis.

    Args:
        rows: the run's metrics.
        epochs: the run's length, which is the axis's range.
        what: the measure, which names its columns, such as "kl".
        title: the figure's title.
        share: whether the measure is a fraction, to be shown in per cent.
    """
    rows = thin(rows)
    # A logarithmic axis cannot show 0.
    traces = [
        line(
            rows,
            [row.get(f"{what} {role}") or None for row in rows],
            role,
            role,
            "%{y:.2%}" if share else "%{y:.4f}",
        )
        for role in ("student", "control")
    ]
    layout = over_epochs(title, epochs, rows, ())
    shown = [value for trace in traces for value in trace["y"]]
    layout["yaxis"] = {"type": "log", **(log_ticks(shown, percent) if share else log_ticks(shown))}
    return {"data": traces, "layout": layout}


def reliability(groups: Mapping[str, Tensor]) -> Figure:
    """Plot accuracy against confidence (the highest probability); a calibrated model is on the diagonal.

    Args:
        groups: role -> (groups, 3) count, mean confidence and accuracy, from
            kd.metrics.classification.reliability.
    """
    diagonal = {
        "type": "scatter",
        "mode": "lines",
        "x": [0, 1],
        "y": [0, 1],
        "showlegend": False,
        "hoverinfo": "skip",
        "line": {"color": "#9CA3AF", "width": 1, "dash": "dot"},
    }
    traces = []
    for role, table in groups.items():
        count, confidence, accuracy = table[table[:, 0] > 0].unbind(1)
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": role,
                "x": [round(x, 4) for x in confidence.tolist()],
                "y": [round(y, 4) for y in accuracy.tolist()],
                "customdata": count.int().tolist(),
                "hovertemplate": "accuracy %{y:.1%} on %{customdata} images",
                # A marker grows with the number of images in its group; a small group is uncertain.
                "marker": {
                    "size": [round(5 + 3 * math.log10(n), 1) for n in count.tolist()],
                    "symbol": SYMBOLS[role],
                    "color": COLOURS[role],
                },
                "line": {"color": COLOURS[role], "dash": DASHES[role], "width": 1.5},
            }
        )
    layout = base("Reliability")
    layout |= {
        "height": 340,
        "hovermode": "closest",
        "xaxis": {
            "range": [0, 1.02],
            "tickformat": ".0%",
            "title": {"text": "confidence (highest probability)"},
            "fixedrange": True,
        },
        "yaxis": {
            "range": [0, 1.02],
            "tickformat": ".0%",
            "title": {"text": "accuracy"},
            "fixedrange": True,
        },
    }
    return {"data": [diagonal, *traces], "layout": layout}


#: The networks of kd.experiments.mistake -> their names on the page.
TAUGHT = {"student": "right", "mistaken": "mistaken", "control": "control"}


def wrong_shares(rows: Rows, epochs: float) -> Figure:
    """Plot the validation error rate of each of TAUGHT over the epochs, on a logarithmic axis."""
    rows = thin(rows)
    ends = [row for row in rows if row["whole_validation"]]
    lines, dots = [], []
    for role, name in TAUGHT.items():
        lines.append(
            line(rows, [1 - row[f"validation {role}"] or None for row in rows], name, role, "%{y:.2%}")
            | {"legendgroup": role}
        )
        dots.append(
            line(ends, [1 - row[f"validation {role}"] or None for row in ends], name, role, "")
            | {"legendgroup": role}
        )
        dots[-1] |= {
            "mode": "markers",
            "marker": {"size": 7, "color": COLOURS[role]},
            "showlegend": False,
            "hoverinfo": "skip",
        }
    layout = over_epochs("Validation error rate", epochs, rows, ())
    shown = [value for trace in lines for value in trace["y"]]
    layout["yaxis"] = {"type": "log", "title": {"text": "error rate"}, **log_ticks(shown, percent)}
    return {"data": lines + dots, "layout": layout}


def gradient_ratio(rows: Rows, epochs: float) -> Figure:
    """Plot the norm of the mistaken gradient divided by that of the right one, on a logarithmic axis."""
    rows = thin(averaged(rows, "gradient ratio"))
    ratio = line(
        rows, [row["gradient ratio"] or None for row in rows], TAUGHT["mistaken"], "mistaken", "%{y:.3g}"
    )
    level = line([{"epoch": 0.0}, {"epoch": epochs}], [1.0, 1.0], TAUGHT["student"], "student", "1")
    layout = over_epochs("Gradient norm, mistaken / right", epochs, rows, ())
    shown = [row["gradient ratio"] for row in rows if row["gradient ratio"] > 0] + [1.0]
    low, high = math.floor(math.log10(min(shown))), math.ceil(math.log10(max(shown)))
    layout["yaxis"] = {
        "type": "log",
        "dtick": 1,
        "range": [low - 0.1, max(high, 0) + 0.3],
        "title": {"text": "ratio"},
    }
    return {"data": [level, ratio], "layout": layout}
