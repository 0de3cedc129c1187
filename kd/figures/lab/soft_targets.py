"""Figures of a teacher's soft targets and of the digits that a student never saw."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from kd.data.task import MNIST
from kd.figures.base import COLOURS, PATTERNS, Figure, base
from kd.lab.soft_targets import entropy, soft_targets

#: From transparent, which shows the page in light and dark, to the teacher's colour.
SHADES = [[0, "rgba(59, 130, 246, 0)"], [1, COLOURS["teacher"]]]


def entropy_curve(logits: Tensor, temperature: float) -> Figure:
    """Plot the entropy of softmax(logits / T), in bits, for T from 1 to 20, and mark the current T.

    Args:
        logits: (10,) the logits of one image.
        temperature: the T to mark.
    """
    tried = torch.linspace(1, 20, 77, dtype=torch.float64).tolist()
    bits = [entropy(soft_targets(logits, t)).item() for t in tried]
    here = entropy(soft_targets(logits, temperature)).item()
    curve = {
        "type": "scatter",
        "mode": "lines",
        "name": "teacher",
        "x": [round(t, 3) for t in tried],
        "y": [round(b, 4) for b in bits],
        "line": {"color": COLOURS["teacher"], "width": 2.5},
        "hovertemplate": "%{y:.2f} bits",
    }
    mark = {
        "type": "scatter",
        "mode": "markers+text",
        "x": [temperature],
        "y": [round(here, 4)],
        "text": [f"{here:.2f} bits"],
        "textposition": "bottom right" if temperature < 12 else "bottom left",
        "cliponaxis": False,
        "marker": {"size": 11, "color": COLOURS["teacher"]},
        "hoverinfo": "skip",
    }
    layout = base("Entropy of the soft targets")
    layout |= {
        "showlegend": False,
        "height": 260,
        "xaxis": {"range": [1, 20.4], "title": {"text": "temperature"}, "fixedrange": True},
        "yaxis": {
            "range": [0, 1.08 * math.log2(MNIST.classes)],
            "title": {"text": "entropy, bits"},
            "fixedrange": True,
        },
    }
    return {"data": [curve, mark], "layout": layout}


def class_heat_map(averages: Tensor) -> Figure:
    """Plot the mean soft target of each class as a heat map.

    The diagonal is written but not coloured, because it would outshine the rest.

    Args:
        averages: (10, 10) mean probabilities; row a, column b is the probability of b for images of a.
    """
    names = [str(digit) for digit in range(len(averages))]
    shares = [[None if math.isnan(value) else round(value, 6) for value in row] for row in averages.tolist()]
    own = [
        [f"{value:.0%}" if a == b and value is not None else "" for b, value in enumerate(row)]
        for a, row in enumerate(shares)
    ]
    others = [[None if a == b else value for b, value in enumerate(row)] for a, row in enumerate(shares)]
    cells = {"type": "heatmap", "x": names, "y": names, "xgap": 1, "ygap": 1}
    colours = cells | {
        "z": others,
        "zmin": 0,
        "colorscale": SHADES,
        "colorbar": {"tickformat": ".1%", "thickness": 12, "outlinewidth": 0},
        "hovertemplate": "a %{y}: %{z:.2%} of %{x}<extra></extra>",
        "hoverongaps": False,
    }
    diagonal = cells | {
        "z": [[0 if text else None for text in row] for row in own],
        "text": own,
        "texttemplate": "%{text}",
        "colorscale": [[0, "rgba(124, 133, 148, 0.18)"], [1, "rgba(124, 133, 148, 0.18)"]],
        "showscale": False,
        "hovertemplate": "a %{y}: %{text} of itself<extra></extra>",
        "hoverongaps": False,
    }
    layout = base("")
    layout |= {
        "height": 400,
        "hovermode": "closest",
        "xaxis": {
            "type": "category",
            "title": {"text": "class that the teacher sees"},
            "fixedrange": True,
            "side": "bottom",
            "showgrid": False,
        },
        "yaxis": {
            "type": "category",
            "title": {"text": "digit"},
            "fixedrange": True,
            "autorange": "reversed",
            "showgrid": False,
        },
    }
    layout["margin"]["t"] = 12
    return {"data": [colours, diagonal], "layout": layout}


def recall_bars(now: Mapping[str, Tensor], before: Mapping[str, Tensor], omitted: str) -> Figure:
    """Plot the recall of student and control for each digit, with the omitted digits on a shaded background.

    Args:
        now: "student" and "control" -> (10,) recalls with the offset.
        before: the same without an offset, drawn as dashes.
        omitted: the digits that were left out of the transfer set.
    """
    names = list(MNIST.class_names)
    traces: list[dict[str, Any]] = []
    for role, shares in now.items():
        traces.append(
            {
                "type": "bar",
                "name": role,
                "x": names,
                "y": [round(share, 4) for share in shares.tolist()],
                "offsetgroup": role,
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
        # Text rather than lines, because text takes its colour from the theme.
        traces.append(
            {
                "type": "scatter",
                "mode": "text",
                "name": f"{role}, no offset",
                "x": names,
                "y": [round(share, 4) for share in before[role].tolist()],
                "text": ["━"] * MNIST.classes,
                "offsetgroup": role,
                "showlegend": False,
                "hoverinfo": "skip",
                "cliponaxis": False,
            }
        )
    layout = base("Recall of each digit (━ without an offset)")
    layout |= {
        "barmode": "group",
        "bargap": 0.2,
        "scattermode": "group",
        "scattergap": 0.2,
        "height": 320,
        "xaxis": {
            "type": "category",
            "dtick": 1,
            "tickangle": 0,
            "title": {"text": "digit"},
            "fixedrange": True,
        },
        "yaxis": {
            "range": [0, 1.1],
            "tickformat": ".0%",
            "tickvals": [0, 0.25, 0.5, 0.75, 1],
            "fixedrange": True,
            "title": {"text": "recall"},
        },
        "shapes": [
            {
                "type": "rect",
                "x0": int(digit) - 0.5,
                "x1": int(digit) + 0.5,
                "yref": "paper",
                "y0": 0,
                "y1": 1,
                "layer": "below",
                "fillcolor": "rgba(232, 89, 12, 0.13)",
                "line": {"width": 0},
            }
            for digit in omitted
        ],
        "annotations": [
            {
                "x": int(digit),
                "y": 1.1,
                "yanchor": "top",
                "text": "never<br>seen",
                "showarrow": False,
                "font": {"size": 10},
            }
            for digit in omitted
        ],
    }
    return {"data": traces, "layout": layout}
