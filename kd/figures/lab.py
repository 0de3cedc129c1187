"""The lab's figures, as plain dicts like those of kd.figures.training."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kd.data.task import MNIST
from kd.figures.training import (
    COLOURS,
    DASHES,
    PATTERNS,
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
from kd.lab import pictures
from kd.lab.soft_targets import entropy, soft_targets

#: From nothing, which is the page itself in light and dark, to the teacher's colour.
SHADES = [[0, "rgba(59, 130, 246, 0)"], [1, COLOURS["teacher"]]]


def entropy_curve(logits: Tensor, temperature: float) -> Figure:
    """Entropy of softmax(logits / T), of one image's logits (10,), over T from 1 to 20; the current T is marked."""
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
    layout = base("How much the answer leaves open")
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
    """What the teacher sees on average (10, 10) in each digit. The diagonal is written, not coloured: it would outshine the rest."""
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
            "title": {"text": "what the teacher sees in it"},
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
    """The share of each digit's images that student and control read right, the digits left out in a shade of their own.

    Args:
        now: "student" and "control" -> (10,) shares. ``before``: the same without any offset, drawn as a dash.
    """
    names = list(MNIST.class_names)
    traces = []
    for who, shares in now.items():
        traces.append(
            {
                "type": "bar",
                "name": who,
                "x": names,
                "y": [round(share, 4) for share in shares.tolist()],
                "offsetgroup": who,
                "marker": {
                    "color": COLOURS[who],
                    "pattern": {
                        "shape": PATTERNS[who],
                        "size": 6,
                        "fillmode": "overlay",
                        "fgcolor": "#FFFFFF",
                    },
                },
                "hovertemplate": "%{x}: %{y:.1%}",
            }
        )
        # Words rather than lines, since those take their colour from the theme.
        traces.append(
            {
                "type": "scatter",
                "mode": "text",
                "name": f"{who}, no offset",
                "x": names,
                "y": [round(share, 4) for share in before[who].tolist()],
                "text": ["━"] * MNIST.classes,
                "offsetgroup": who,
                "showlegend": False,
                "hoverinfo": "skip",
                "cliponaxis": False,
            }
        )
    layout = base("Share of each digit read right (━ without an offset)")
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


#: Learner of the label budget -> its name on the chart, its dash and the symbol of its points.
BUDGET_LINES = {
    "student": ("student: soft targets, no label", DASHES["student"], "circle"),
    "control": ("control: images shifted", DASHES["control"], "triangle-up"),
    "augmented control": ("control: also turned and scaled", "dashdot", "square"),
}


def label_budget(
    curves: Mapping[str, list[Mapping[str, Any]]], under_way: tuple[str, float, float] | None, most: int
) -> Figure:
    """Accuracy against the number of labels, mean and deviation over the seeds.

    Args:
        curves: of kd.studies.curves.
        under_way: learner, labels and accuracy so far of the training that has not ended, or None.
        most: labels that there are.
    """
    traces = []
    for who, (name, dash, symbol) in BUDGET_LINES.items():
        colour = COLOURS["student" if who == "student" else "control"]
        points = curves.get(who, [])
        if who == "student" and points:  # it needs no label: level over all budgets
            points = [points[0] | {"value": value} for value in (10, most)]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers" if who != "student" else "lines",
                "name": name,
                "x": [point["value"] for point in points],
                "y": [round(point["mean"], 5) for point in points],
                "error_y": {
                    "type": "data",
                    "array": [round(point["sd"], 5) for point in points],
                    "color": colour,
                    "thickness": 1.5,
                },
                "line": {"color": colour, "dash": dash, "width": 2.5 if who == "student" else 2},
                "marker": {"size": 8, "symbol": symbol},
                "hovertemplate": "%{y:.2%}",
            }
        )
    if under_way is not None:
        who, labels, share = under_way
        colour, symbol = COLOURS["student" if who == "student" else "control"], BUDGET_LINES[who][2]
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
        "yaxis": {"range": [0.3, 1.01], "tickformat": ".0%", "title": {"text": "test images read right"}},
    }
    layout["margin"]["t"] = 76  # a narrow screen puts the names below each other
    return {"data": traces, "layout": layout}


def severity(shares: Mapping[str, list[float]], levels: list[float], unit: str, what: str) -> Figure:
    """Accuracy of each model against how much the test digits were spoiled."""
    traces = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": who,
            "x": levels,
            "y": [round(share, 5) for share in values],
            "line": {"color": COLOURS[who], "dash": DASHES[who], "width": 2.5 if who == "student" else 2},
            "marker": {"size": 7, "symbol": SYMBOLS[who]},
            "hovertemplate": "%{y:.1%}",
        }
        for who, values in shares.items()
    ]
    layout = base(f"Share of {what} test digits read right")
    layout |= {
        "height": 340,
        "xaxis": {"tickvals": levels, "title": {"text": f"how much, {unit}"}, "fixedrange": True},
        "yaxis": {
            "range": [0, 1.02],
            "tickformat": ".0%",
            "title": {"text": "share right"},
            "fixedrange": True,
        },
    }
    return {"data": traces, "layout": layout}


def wrong_labels(
    curves: Mapping[str, list[Mapping[str, Any]]], under_way: Mapping[str, tuple[float, float]]
) -> Figure:
    """Accuracy against the share of wrong labels, mean and deviation over the seeds.

    Args:
        curves: of kd.studies.curves.
        under_way: learner -> share of wrong labels and accuracy so far, of the training that has not ended.
    """
    traces = []
    for who in ("student", "control"):
        points = curves.get(who, [])
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": who,
                "x": [point["value"] for point in points],
                "y": [round(point["mean"], 5) for point in points],
                "error_y": {
                    "type": "data",
                    "array": [round(point["sd"], 5) for point in points],
                    "color": COLOURS[who],
                    "thickness": 1.5,
                },
                "line": {"color": COLOURS[who], "dash": DASHES[who], "width": 2.5 if who == "student" else 2},
                "marker": {"size": 8, "symbol": SYMBOLS[who]},
                "hovertemplate": "%{y:.2%}",
            }
        )
    for who, (value, share) in under_way.items():
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": f"{who}, training now",
                "x": [value],
                "y": [round(share, 5)],
                "showlegend": False,
                "marker": {
                    "size": 11,
                    "symbol": f"{SYMBOLS[who]}-open",
                    "color": COLOURS[who],
                    "line": {"width": 2},
                },
                "hovertemplate": "%{y:.2%}",
            }
        )
    layout = base("Share of the test images read right")
    low = min((point["mean"] for curve in curves.values() for point in curve), default=1.0)
    layout |= {
        "height": 360,
        "xaxis": {"range": [-0.02, 0.62], "tickformat": ".0%", "title": {"text": "labels that are wrong"}},
        "yaxis": {
            "range": [0.8 if low > 0.82 else 0.0, 1.003],
            "tickformat": ".0%",
            "title": {"text": "share right"},
        },
    }
    return {"data": traces, "layout": layout}


#: A colour for each digit, that stands out from a light and a dark page. The maps show the digits themselves, so none is needed to tell them apart.
DIGIT_COLOURS = (
    "#3B82F6",
    "#E8590C",
    "#16A34A",
    "#DC2626",
    "#A855F7",
    "#A16207",
    "#DB2777",
    "#7C8594",
    "#5B8C0A",
    "#0891B2",
)


def feature_map(places: np.ndarray, labels: Tensor, who: str) -> Figure:
    """Images as their digits, where PCA puts what the last layer of ``who`` sees of them: places (N, 2), labels (N,)."""
    traces = []
    for digit in range(MNIST.classes):
        mine = places[(labels == digit).numpy()]
        traces.append(
            {
                "type": "scatter",
                "mode": "text",
                "name": str(digit),
                "text": [str(digit)] * len(mine),
                "x": mine[:, 0].round(3).tolist(),
                "y": mine[:, 1].round(3).tolist(),
                "textfont": {"color": DIGIT_COLOURS[digit], "size": 12},
                "showlegend": False,
                "hoverinfo": "skip",
            }
        )
    layout = base(f"What the {who} makes of them")
    axis = {"range": [-2, 2], "visible": False, "fixedrange": True}
    layout |= {"height": 380, "xaxis": axis, "yaxis": axis | {"scaleanchor": "x"}, "hovermode": False}
    layout["margin"] = {"l": 8, "r": 8, "t": 40, "b": 8}
    return {"data": traces, "layout": layout}


def weights(units: Tensor, who: str, columns: int = 8) -> Figure:
    """Weights into units (N, H, W) as small pictures: orange where ink speaks for the unit, blue where it speaks against it."""
    sheet = pictures.sheet(units, columns)
    height, width = sheet.shape
    # A few large weights would leave the rest too pale to see.
    strength = (sheet.abs() / units.abs().flatten().quantile(0.995).clamp(min=1e-12)).clamp(max=1)
    image = torch.zeros(height, width, 4, dtype=torch.uint8)
    for sign, colour in ((1, COLOURS["student"]), (-1, COLOURS["teacher"])):
        image[sheet * sign > 0, :3] = torch.tensor(
            [int(colour[i : i + 2], 16) for i in (1, 3, 5)], dtype=torch.uint8
        )
    # Transparent where a weight is 0, so that the page, light or dark, shows through.
    image[..., 3] = (strength * 255).round().to(torch.uint8)
    source = "data:image/png;base64," + base64.b64encode(pictures.png(image.numpy())).decode()
    layout = base(f"First layer of the {who}")
    hidden = {"visible": False, "fixedrange": True}
    layout |= {"height": 300, "xaxis": hidden, "yaxis": hidden | {"scaleanchor": "x"}, "hovermode": False}
    layout["margin"] = {"l": 8, "r": 8, "t": 40, "b": 8}
    return {"data": [{"type": "image", "source": source, "hoverinfo": "skip"}], "layout": layout}


def fidelity(rows: Rows, epochs: float, what: str, title: str, share: bool) -> Figure:
    """A measure of student and control over the epochs, on a logarithmic axis: ``what`` names its columns, such as "kl"."""
    rows = thin(rows)
    # A 0 has no place on the axis.
    traces = [
        line(
            rows,
            [row.get(f"{what} {who}") or None for row in rows],
            who,
            who,
            "%{y:.2%}" if share else "%{y:.4f}",
        )
        for who in ("student", "control")
    ]
    layout = over_epochs(title, epochs, rows, ())
    shown = [value for trace in traces for value in trace["y"]]
    layout["yaxis"] = {"type": "log", **(log_ticks(shown, percent) if share else log_ticks(shown))}
    return {"data": traces, "layout": layout}


def reliability(groups: Mapping[str, Tensor]) -> Figure:
    """Share right against the highest probability, of kd.measure.reliability; on the diagonal a model is as sure as it should be."""
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
    for who, found in groups.items():
        count, sure, right = found[found[:, 0] > 0].unbind(1)
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": who,
                "x": [round(x, 4) for x in sure.tolist()],
                "y": [round(y, 4) for y in right.tolist()],
                "customdata": count.int().tolist(),
                "hovertemplate": "%{y:.1%} right of %{customdata}",
                # The more images in a group, the larger its mark; a few say little.
                "marker": {
                    "size": [round(5 + 3 * math.log10(n), 1) for n in count.tolist()],
                    "symbol": SYMBOLS[who],
                    "color": COLOURS[who],
                },
                "line": {"color": COLOURS[who], "dash": DASHES[who], "width": 1.5},
            }
        )
    layout = base("Reliability")
    layout |= {
        "height": 340,
        "hovermode": "closest",
        "xaxis": {
            "range": [0, 1.02],
            "tickformat": ".0%",
            "title": {"text": "how sure (highest probability)"},
            "fixedrange": True,
        },
        "yaxis": {
            "range": [0, 1.02],
            "tickformat": ".0%",
            "title": {"text": "share right"},
            "fixedrange": True,
        },
    }
    return {"data": [diagonal, *traces], "layout": layout}


#: The networks of kd.experiments.mistake, as they are called on the page.
TAUGHT = {"student": "right", "mistaken": "mistaken", "control": "control"}


def wrong_shares(rows: Rows, epochs: float) -> Figure:
    """The share of the validation images that each of TAUGHT reads wrong, over the epochs, on a logarithmic axis."""
    rows = thin(rows)
    ends = [row for row in rows if row["whole_validation"]]
    lines, dots = [], []
    for who, name in TAUGHT.items():
        lines.append(
            line(rows, [1 - row[f"validation {who}"] or None for row in rows], name, who, "%{y:.2%}")
            | {"legendgroup": who}
        )
        dots.append(
            line(ends, [1 - row[f"validation {who}"] or None for row in ends], name, who, "")
            | {"legendgroup": who}
        )
        dots[-1] |= {
            "mode": "markers",
            "marker": {"size": 7, "color": COLOURS[who]},
            "showlegend": False,
            "hoverinfo": "skip",
        }
    layout = over_epochs("Validation images read wrong", epochs, rows, ())
    shown = [value for trace in lines for value in trace["y"]]
    layout["yaxis"] = {"type": "log", "title": {"text": "share wrong"}, **log_ticks(shown, percent)}
    return {"data": lines + dots, "layout": layout}


def gradient_ratio(rows: Rows, epochs: float) -> Figure:
    """How long the mistake's gradient is against the right one's, over the epochs, on a logarithmic axis; 1 is right."""
    rows = thin(rows)
    ratio = line(
        rows, [row["gradient ratio"] or None for row in rows], TAUGHT["mistaken"], "mistaken", "%{y:.3g}"
    )
    level = line([{"epoch": 0.0}, {"epoch": epochs}], [1.0, 1.0], TAUGHT["student"], "student", "1")
    layout = over_epochs("Gradient, against the right one", epochs, rows, ())
    shown = [row["gradient ratio"] for row in rows if row["gradient ratio"] > 0] + [1.0]
    low, high = math.floor(math.log10(min(shown))), math.ceil(math.log10(max(shown)))
    layout["yaxis"] = {
        "type": "log",
        "dtick": 1,
        "range": [low - 0.1, max(high, 0) + 0.3],
        "title": {"text": "times as long"},
    }
    return {"data": [level, ratio], "layout": layout}
