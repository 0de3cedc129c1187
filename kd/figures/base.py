"""Code that all figures share: colours, lines, layouts and axes.

A figure is a plain dict of Plotly's data and layout. Plotly's own validation would take longer than
drawing a live chart, four times a second; the tests pass each figure through plotly's Figure. The
browser sets the colours of text and grid from the theme.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kd.config.kind import short

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
MAX_POINTS = 400
MAX_DOTS = 40  # markers per line: each is a node of the page
#: For the axes of live charts: measuring how much room the labels need takes longer than all the rest.
FIXED = {"automargin": False}
HEIGHT = 290


def order(role: str) -> int:
    """Return the sort key of a role: teacher, student, control, then others."""
    return next((place for place, known in enumerate(COLOURS) if known == role), len(COLOURS))


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
