"""Figures of what a network has learned: its features and its first layer."""

from __future__ import annotations

import base64

import numpy as np
import torch
from torch import Tensor

from kd.data.task import MNIST
from kd.figures.base import COLOURS, Figure, base
from kd.lab import pictures

#: A colour per digit that stands out from a light and a dark page. Colour is not needed to tell digits
#: apart, because the maps show the digits themselves.
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


def feature_map(places: np.ndarray, labels: Tensor, role: str) -> Figure:
    """Plot images as their digits at the PCA coordinates of a network's last hidden features.

    Args:
        places: (N, 2) coordinates.
        labels: (N,) digits.
        role: the network's role, for the title.
    """
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
    layout = base(f"Features of the {role}")
    axis = {"range": [-2, 2], "visible": False, "fixedrange": True}
    layout |= {"height": 380, "xaxis": axis, "yaxis": axis | {"scaleanchor": "x"}, "hovermode": False}
    layout["margin"] = {"l": 8, "r": 8, "t": 40, "b": 8}
    return {"data": traces, "layout": layout}


def weights(units: Tensor, role: str, columns: int = 8) -> Figure:
    """Draw the input weights of units as small pictures: positive weights orange, negative ones blue.

    Args:
        units: (N, H, W) weights.
        role: the network's role, for the title.
        columns: pictures per row.
    """
    sheet = pictures.sheet(units, columns)
    height, width = sheet.shape
    # Clip at a quantile: a few large weights would leave the rest too pale to see.
    strength = (sheet.abs() / units.abs().flatten().quantile(0.995).clamp(min=1e-12)).clamp(max=1)
    image = torch.zeros(height, width, 4, dtype=torch.uint8)
    for sign, colour in ((1, COLOURS["student"]), (-1, COLOURS["teacher"])):
        image[sheet * sign > 0, :3] = torch.tensor(
            [int(colour[i : i + 2], 16) for i in (1, 3, 5)], dtype=torch.uint8
        )
    # Transparent where a weight is 0, so that the page, light or dark, shows through.
    image[..., 3] = (strength * 255).round().to(torch.uint8)
    source = "data:image/png;base64," + base64.b64encode(pictures.png(image.numpy())).decode()
    layout = base(f"First layer of the {role}")
    hidden = {"visible": False, "fixedrange": True}
    layout |= {"height": 300, "xaxis": hidden, "yaxis": hidden | {"scaleanchor": "x"}, "hovermode": False}
    layout["margin"] = {"l": 8, "r": 8, "t": 40, "b": 8}
    return {"data": [{"type": "image", "source": source, "hoverinfo": "skip"}], "layout": layout}
