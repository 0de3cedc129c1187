"""Figures of compression, as plain dicts like those of kd.figures.base: error rate against a cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kd.figures.base import COLOURS, DASHES, Figure, base, log_ticks, percent

#: Role -> its name in the legend and its marker, before and after fine-tuning.
BEFORE = {"student": ("distilled", "circle"), "alone": ("never distilled", "square")}
AFTER = {
    "student": ("fine-tuned with the teacher", "circle"),
    "control": ("fine-tuned on labels", "triangle-up"),
    "alone": ("never distilled, fine-tuned on labels", "square"),
}

#: Cost -> its name within a sentence.
AXES = {"file_bytes": "file size", "zipped_bytes": "zipped file size", "seconds": "latency"}


def way(rows: Sequence[Mapping[str, Any]], axis: str, axis_title: str, recovered: bool) -> Figure:
    """Plot error rate against a cost, both logarithmic: each network's path through the techniques.

    Lower left is best.

    Args:
        rows: dicts of who (role), stage, title, wrong (error rate, 0 to 1) and the costs; a row
            without this cost (None) is left out.
        axis: the cost, a key of AXES: bytes or seconds.
        axis_title: the axis's title.
        recovered: whether the path ends with fine-tuning, where student and control part.
    """
    scale = {"seconds": 1e3}.get(axis, 1 / 1024)
    traces = []
    for role, (name, symbol) in (AFTER if recovered else BEFORE).items():
        path = [row for row in rows if row["who"] == role and row[axis] is not None]
        if not path:
            continue
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": name if role != "student" or recovered or len(rows) > len(path) else "network",
                "x": [scale * row[axis] for row in path],
                "y": [row["wrong"] or None for row in path],
                "text": [row["title"] for row in path],
                "line": {
                    "color": COLOURS[role],
                    "dash": DASHES[role],
                    "width": 2.5 if role == "student" else 2,
                },
                "marker": {
                    "size": [9] + [11] * (len(path) - 1),
                    "symbol": [f"{symbol}-open"] + [symbol] * (len(path) - 1),
                    "color": COLOURS[role],
                },
                "hovertemplate": "%{text}: error rate %{y:.2%}, %{x:,.4~g} "
                + ("ms" if axis == "seconds" else "KB")
                + f"<extra>{name}</extra>",
            }
        )
    costs, error_rates = ([value for trace in traces for value in trace[key]] for key in ("x", "y"))
    layout = base("")
    layout |= {
        "height": 360,
        "hovermode": "closest",
        "xaxis": {
            "type": "log",
            "title": {"text": axis_title},
            **log_ticks(costs, lambda tick: f"{tick:,.0f}" if tick >= 10 else f"{tick:.3g}"),
        },
        "yaxis": {"type": "log", "title": {"text": "error rate"}, **log_ticks(error_rates, percent)},
    }
    layout["margin"]["t"] = 60
    return {"data": traces, "layout": layout}
