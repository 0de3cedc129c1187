"""The heat map of a grid, as a plain dict like those of kd.figures.training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kd.config.grid import GridConfig
from kd.figures.training import COLOURS, Figure, base
from kd.sweeps.grid_summary import MEASURES, Place, place

#: Axes as they are written beside the heat map, and within a sentence.
TITLES = {
    "student": "student",
    "labels": "labels",
    "method": "method",
    "temperature": "temperature",
    "soft_weight": "soft weight",
}
#: Where colours may begin and end: a range of round numbers changes seldom while values come in.
_SHARES = (0, 50, 70, 80, 85, *range(90, 97), 97, 97.5, 98, 98.5, 99, 99.5, 100)
_ERRORS = (0, 50, 100, 150, 200, 250, 300, 400, 500, 600, 800, 1000, 1500, 2000, 3000, 5000, 10000)
_HALVES = (
    *(step * power for power in (0.1, 1, 10, 100, 1000) for step in (1, 1.5, 2, 2.5, 3, 4, 5, 7)),
    10_000,
)
_WORSE = "#475569"


def heat(
    config: GridConfig,
    means: Mapping[Place, Mapping[str, Any]],
    live: Mapping[Place, Mapping[str, float]],
    x: str,
    y: str,
    fixed: Mapping[str, Any],
    measure: str,
    gain: bool,
) -> Figure:
    """Mean over the seeds of ``measure`` for each value of two axes; what nothing is known of stays empty.

    Args:
        means: of grid_summary.means(), by place.
        live: what is known of places that have no cell that has ended.
        fixed: the value of each other axis.
        measure: of grid_summary.MEASURES.
        gain: its difference from the control instead.
    """
    # A control has no difference from itself.
    across, down = (
        [value for value in axis(config, name) if not (gain and name == "soft_weight" and value == 0)]
        for name in (x, y)
    )
    rows = [
        [_cell(fixed | {x: right, y: up}, means, live, measure, gain, named(config)) for right in across]
        for up in down
    ]
    ended = [cell["z"] for row in rows for cell in row if cell["ended"]]
    low, high = _range(
        ended or [cell["z"] for row in rows for cell in row if cell["z"] is not None], measure, gain
    )
    fewer = measure == "test_errors"
    colours: Any = "Viridis"
    if gain:
        colours = [[0, _WORSE], [0.5, "#EDEFF2"], [1, COLOURS["student"]]]
    inner = 80 + 44 * len(down)  # pixels
    trace = {
        "type": "heatmap",
        "x": [tick(x, value) for value in across],
        "y": [tick(y, value) for value in down],
        "z": [[cell["z"] for cell in row] for row in rows],
        "text": [[cell["text"] for cell in row] for row in rows],
        "customdata": [[cell["hover"] for cell in row] for row in rows],
        "texttemplate": "%{text}",
        "hovertemplate": "%{customdata}<extra></extra>",
        "hoverongaps": False,
        "xgap": 2,
        "ygap": 2,
        "zmin": low,
        "zmax": high,
        "colorscale": colours,
        "reversescale": fewer,
        "colorbar": {
            "orientation": "h",
            "y": -62 / inner,
            "yanchor": "top",
            "thickness": 10,
            "len": 1,
            "title": {"text": unit(measure, gain), "side": "bottom"},
        },
    }
    layout = base("")
    layout |= {
        "height": inner + 134,
        "hovermode": "closest",
        "xaxis": _axis(x, across),
        "yaxis": _axis(y, down),
        "margin": {"l": 40, "r": 10, "t": 34, "b": 100},
    }
    if all(cell["z"] is None for row in rows for cell in row):
        wait = (
            "Known when a cell has ended"
            if measure == "test_errors" or gain
            else "Nothing has been measured yet"
        )
        layout["annotations"] = [
            {"text": wait, "showarrow": False, "xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5}
        ]
    return {"data": [trace], "layout": layout}


def _axis(name: str, values: Sequence[Any]) -> dict[str, Any]:
    """All values in their places, whatever is known of them."""
    ticks = [tick(name, value) for value in values]
    return {
        "type": "category",
        "categoryorder": "array",
        "categoryarray": ticks,
        "tickvals": ticks,
        "range": [-0.5, len(ticks) - 0.5],
        "title": {"text": TITLES[name]},
        "showgrid": False,
    }


def named(config: GridConfig) -> list[str]:
    """The axes that are worth naming: those that vary, temperature and soft weight."""
    return [name for name in TITLES if name in ("temperature", "soft_weight", *config.varied)]


def axis(config: GridConfig, name: str) -> list[Any]:
    """The values along an axis of the heat map. Soft weights have 0 among them: the control."""
    found = config.values(name)
    return sorted({0.0, *found}) if name == "soft_weight" else found


def unit(measure: str, gain: bool) -> str:
    what = {
        "validation_accuracy": "% right, validation images",
        "validation_agreement": "% agreement with the teacher",
        "test_errors": "errors in the test images",
    }[measure]
    return (
        {"validation_accuracy": "points", "validation_agreement": "points", "test_errors": "errors"}[measure]
        + " more than the control"
        if gain
        else what
    )


def title(settings: Mapping[str, Any], within: Sequence[str] = tuple(TITLES)) -> str:
    """ "T = 3, soft weight 0.9": of the axes ``within``."""
    if settings.get("soft_weight") == 0:
        settings = {name: settings[name] for name in ("student", "labels") if name in settings}
        return ", ".join(["control", *_parts(settings, within)])
    return ", ".join(_parts(settings, within)) or "student"


def _parts(settings: Mapping[str, Any], within: Sequence[str]) -> list[str]:
    written = {"temperature": "T = {:g}", "soft_weight": "soft weight {:g}", "student": "{}", "method": "{}"}
    return [
        (f"{value:,} labels" if value else "all labels") if name == "labels" else written[name].format(value)
        for name, value in settings.items()
        if name in within and value is not None
    ]


def shown(of: Mapping[str, float | None], measure: str, gain: bool = False) -> str:
    """ "95.12 ± 0.20%": a mean with its deviation, or of a difference "+0.31 ± 0.10 points"."""
    times, digits = (1, 0 if of["sd"] is None else 1) if measure == "test_errors" else (100, 2)
    sign = "+" if gain else ""
    deviation = "" if of["sd"] is None else f" ± {times * of['sd']:.{digits}f}"
    end = (
        (" errors" if measure == "test_errors" else " points")
        if gain
        else " errors"
        if measure == "test_errors"
        else "%"
    )
    return f"{times * of['mean']:{sign}.{digits}f}{deviation}{end}".replace("-", "−")


def verdict(best: Mapping[str, Any], within: Sequence[str]) -> str:
    """What a grid came to, of grid_summary.best(); its settings on the axes ``within`` are named."""
    errors = best["test_errors"]
    said = f"Best on the validation images, where it may be chosen: **{title(best, within)}**, {shown(best['validation_accuracy'], 'validation_accuracy')} right there"
    said += f"; on the test set **{shown(errors, 'test_errors')}**"
    if "gain" in errors:
        gain = errors["gain"]
        said += f", {shown(gain, 'test_errors', True)} against its control"
        if gain["sd"] is not None and abs(gain["mean"]) <= 2 * gain["sd"] / best["n"] ** 0.5:
            said += ", which is within chance"
    return (
        f"{said} ({best['n']} seeds, mean ± standard deviation)." if best["n"] > 1 else f"{said} (one seed)."
    )


def _cell(
    settings: Mapping[str, Any],
    means: Mapping[Place, Mapping[str, Any]],
    live: Mapping[Place, Mapping[str, float]],
    measure: str,
    gain: bool,
    within: Sequence[str],
) -> dict[str, Any]:
    where, times = place(settings), 1 if measure == "test_errors" else 100
    name, found = title(settings, within), means.get(where)
    if found and found["n"] and (not gain or "gain" in found[measure]):
        value = found[measure]["gain"] if gain else found[measure]
        seeds = f"{found['n']} seed{'s' if found['n'] > 1 else ''}"
        hover = f"<b>{name}</b><br>{shown(found[measure], measure)}, {seeds}"
        if "gain" in found[measure]:
            hover += f"<br>{shown(found[measure]['gain'], measure, True)} against the control"
        if found["diverged"]:
            hover += f"<br>{found['diverged']} more went out of bounds"
        return {
            "z": times * value["mean"],
            "text": _short(times * value["mean"], measure, gain),
            "hover": hover,
            "ended": True,
        }
    if found and found["diverged"]:
        return {
            "z": None,
            "text": "",
            "hover": f"<b>{name}</b><br>went out of bounds; try a lower learning rate",
            "ended": False,
        }
    under_way = live.get(where, {}).get(measure)
    if under_way is None or gain:
        return {"z": None, "text": "", "hover": "", "ended": False}
    return {
        "z": times * under_way,
        "text": _short(times * under_way, measure, False) + "…",
        "hover": f"<b>{name}</b><br>{MEASURES[measure]}: {under_way:.1%} so far",
        "ended": False,
    }


def _short(value: float, measure: str, gain: bool) -> str:
    digits = 0 if measure == "test_errors" else 2 if gain else 1
    return f"{value:{'+' if gain else ''}.{digits}f}".replace("-", "−")


def _range(values: Sequence[float], measure: str, gain: bool) -> tuple[float, float]:
    if gain:
        largest = max((abs(value) for value in values), default=1)
        half = next((step for step in _HALVES if step >= largest), _HALVES[-1])
        return -half, half
    steps = _ERRORS if measure == "test_errors" else _SHARES
    if not values:
        return steps[-5], steps[-1]
    low, high = (
        max(step for step in steps if step <= min(values)),
        min((step for step in steps if step >= max(values)), default=steps[-1]),
    )
    return low, high if high > low else steps[min(len(steps) - 1, steps.index(low) + 1)]


def tick(name: str, value: Any) -> str:
    if name == "soft_weight":
        return "control" if value == 0 else f"{value:g}"
    if name == "labels":
        return f"{value:,}" if value else "all"
    return value if isinstance(value, str) else f"{value:g}"
