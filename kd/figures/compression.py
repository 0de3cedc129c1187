"""The picture of what compression costs and brings, as a plain dict like those of kd.figures.training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kd.figures.training import COLOURS, DASHES, Figure, base, log_ticks, percent

#: Who -> what it is called in the legend, before and after a recovery, and its mark.
BEFORE = {"student": ("distilled", "circle"), "alone": ("never distilled", "square")}
AFTER = {
    "student": ("recovered with the teacher", "circle"),
    "control": ("recovered from labels", "triangle-up"),
    "alone": ("never distilled, from labels", "square"),
}

AXES = {"file_bytes": "size of the file", "zipped_bytes": "size of the zipped file", "seconds": "time"}


def way(rows: Sequence[Mapping[str, Any]], axis: str, what: str, recovered: bool) -> Figure:
    """Share wrong against a cost, both logarithmic: each network's way from the original on. Lower left is best.

    Args:
        rows: who, stage, title, wrong (share), and the cost; a cost of None leaves the row out.
        axis: of AXES.
        what: the axis's title.
        recovered: the way ends with a recovery, where the student and its control part.
    """
    scale = {"seconds": 1e3}.get(axis, 1 / 1024)
    traces = []
    for who, (name, symbol) in (AFTER if recovered else BEFORE).items():
        mine = [row for row in rows if row["who"] == who and row[axis] is not None]
        if not mine:
            continue
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": name if who != "student" or recovered or len(rows) > len(mine) else "network",
                "x": [scale * row[axis] for row in mine],
                "y": [row["wrong"] or None for row in mine],
                "text": [row["title"] for row in mine],
                "line": {"color": COLOURS[who], "dash": DASHES[who], "width": 2.5 if who == "student" else 2},
                "marker": {
                    "size": [9] + [11] * (len(mine) - 1),
                    "symbol": [f"{symbol}-open"] + [symbol] * (len(mine) - 1),
                    "color": COLOURS[who],
                },
                "hovertemplate": "%{text}: %{y:.2%} wrong, %{x:,.4~g} "
                + ("ms" if axis == "seconds" else "KB")
                + f"<extra>{name}</extra>",
            }
        )
    found, wrong = ([value for trace in traces for value in trace[axis]] for axis in ("x", "y"))
    layout = base("")
    layout |= {
        "height": 360,
        "hovermode": "closest",
        "xaxis": {
            "type": "log",
            "title": {"text": what},
            **log_ticks(found, lambda tick: f"{tick:,.0f}" if tick >= 10 else f"{tick:.3g}"),
        },
        "yaxis": {"type": "log", "title": {"text": "share wrong"}, **log_ticks(wrong, percent)},
    }
    layout["margin"]["t"] = 60
    return {"data": traces, "layout": layout}
