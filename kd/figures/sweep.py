"""The heat map of a sweep, as a plain dict like those of kd.figures.base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kd.config.sweep import SweepConfig
from kd.figures.base import COLOURS, Figure, base
from kd.sweeps.sweep_summary import MEASURES, Place, place

#: Axis -> its title next to the heat map and its name within a sentence.
TITLES = {
    "student": "student",
    "labels": "labels",
    "method": "method",
    "temperature": "temperature",
    "soft_weight": "soft weight",
}
#: Where a colour scale may begin and end: a range of round numbers seldom changes while values come in.
_SHARES = (0, 50, 70, 80, 85, *range(90, 97), 97, 97.5, 98, 98.5, 99, 99.5, 100)
_ERRORS = (0, 50, 100, 150, 200, 250, 300, 400, 500, 600, 800, 1000, 1500, 2000, 3000, 5000, 10000)
_HALVES = (
    *(step * power for power in (0.1, 1, 10, 100, 1000) for step in (1, 1.5, 2, 2.5, 3, 4, 5, 7)),
    10_000,
)
_WORSE = "#475569"


def heat(
    config: SweepConfig,
    means: Mapping[Place, Mapping[str, Any]],
    live: Mapping[Place, Mapping[str, float]],
    x: str,
    y: str,
    fixed: Mapping[str, Any],
    measure: str,
    gain: bool,
) -> Figure:
    """Plot the mean of a measure over the seeds for each value of two axes; unknown cells stay empty.

    Args:
        config: the sweep.
        means: the rows of sweep_summary.means(), by place.
        live: the current measures of places where no cell has ended.
        x: the horizontal axis, a key of TITLES.
        y: the vertical axis.
        fixed: the value of each other axis.
        measure: a key of sweep_summary.MEASURES.
        gain: show the difference from the control instead.
    """
    # The difference of a control from itself is not shown.
    across, down = (
        [value for value in axis(config, name) if not (gain and name == "soft_weight" and value == 0)]
        for name in (x, y)
    )
    rows = [
        [
            _cell(dict(fixed) | {x: right, y: up}, means, live, measure, gain, named(config))
            for right in across
        ]
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
            "Available when a cell has ended"
            if measure == "test_errors" or gain
            else "Nothing has been measured yet"
        )
        layout["annotations"] = [
            {"text": wait, "showarrow": False, "xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5}
        ]
    return {"data": [trace], "layout": layout}


def _axis(name: str, values: Sequence[Any]) -> dict[str, Any]:
    """Return an axis on which every value has a place, whether anything is known of it or not."""
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


def named(config: SweepConfig) -> list[str]:
    """Return the axes to name: those that vary, temperature and soft weight."""
    return [name for name in TITLES if name in ("temperature", "soft_weight", *config.varied)]


def axis(config: SweepConfig, name: str) -> list[Any]:
    """Return the values along an axis of the heat map; soft weights include 0, the control."""
    values = config.values(name)
    return sorted({0.0, *values}) if name == "soft_weight" else values


def unit(measure: str, gain: bool) -> str:
    """Return the unit of a measure, or of its difference from the control, for the colour bar."""
    if gain:
        return f"{'errors' if measure == 'test_errors' else 'points'} more than the control"
    return {
        "validation_accuracy": "validation accuracy, %",
        "validation_agreement": "agreement with the teacher, %",
        "test_errors": "test errors",
    }[measure]


def title(settings: Mapping[str, Any], within: Sequence[str] = tuple(TITLES)) -> str:
    """Describe settings in words ("T = 3, soft weight 0.9"), naming only the axes ``within``."""
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


def shown(statistic: Mapping[str, float | None], measure: str, gain: bool = False) -> str:
    """Format a mean and deviation ("95.12 ± 0.20%") or a difference ("+0.31 ± 0.10 points").

    Args:
        statistic: mean and sd (None for one seed).
        measure: a key of sweep_summary.MEASURES.
        gain: whether it is a difference from the control.
    """
    mean, deviation = statistic["mean"] or 0.0, statistic["sd"]
    errors = measure == "test_errors"
    factor = 1 if errors else 100
    digits = 2 if not errors else 0 if deviation is None else 1
    if errors:
        unit = " errors"
    else:
        unit = " points" if gain else "%"
    text = f"{factor * mean:{'+' if gain else ''}.{digits}f}"
    if deviation is not None:
        text += f" ± {factor * deviation:.{digits}f}"
    return (text + unit).replace("-", "−")


def verdict(best: Mapping[str, Any], within: Sequence[str]) -> str:
    """Summarize a sweep's best student in a sentence.

    Args:
        best: a row of sweep_summary.means(), from sweep_summary.best().
        within: the axes whose values are named.
    """
    accuracy, errors = best["validation_accuracy"], best["test_errors"]
    sentence = (
        f"Best setting (chosen on validation): **{title(best, within)}** – "
        f"validation accuracy {shown(accuracy, 'validation_accuracy')}; "
        f"on the test set **{shown(errors, 'test_errors')}**"
    )
    if "gain" in errors:
        gain = errors["gain"]
        sentence += f", {shown(gain, 'test_errors', True)} compared with its control"
        if gain["sd"] is not None and abs(gain["mean"]) <= 2 * gain["sd"] / best["n"] ** 0.5:
            sentence += ", which is within chance"
    seeds = f"{best['n']} seeds, mean ± standard deviation" if best["n"] > 1 else "one seed"
    return f"{sentence} ({seeds})."


def _cell(
    settings: Mapping[str, Any],
    means: Mapping[Place, Mapping[str, Any]],
    live: Mapping[Place, Mapping[str, float]],
    measure: str,
    gain: bool,
    within: Sequence[str],
) -> dict[str, Any]:
    where, factor = place(settings), 1 if measure == "test_errors" else 100
    name, row = title(settings, within), means.get(where)
    if row and row["n"] and (not gain or "gain" in row[measure]):
        value = row[measure]["gain"] if gain else row[measure]
        seeds = f"{row['n']} seed{'s' if row['n'] > 1 else ''}"
        hover = f"<b>{name}</b><br>{shown(row[measure], measure)}, {seeds}"
        if "gain" in row[measure]:
            hover += f"<br>{shown(row[measure]['gain'], measure, True)} compared with the control"
        if row["diverged"]:
            hover += f"<br>{row['diverged']} more diverged"
        return {
            "z": factor * value["mean"],
            "text": _short(factor * value["mean"], measure, gain),
            "hover": hover,
            "ended": True,
        }
    if row and row["diverged"]:
        return {
            "z": None,
            "text": "",
            "hover": f"<b>{name}</b><br>diverged; try a lower learning rate",
            "ended": False,
        }
    under_way = live.get(where, {}).get(measure)
    if under_way is None or gain:
        return {"z": None, "text": "", "hover": "", "ended": False}
    return {
        "z": factor * under_way,
        "text": _short(factor * under_way, measure, False) + "…",
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
    """Return the label of an axis value."""
    if name == "soft_weight":
        return "control" if value == 0 else f"{value:g}"
    if name == "labels":
        return f"{value:,}" if value else "all"
    return value if isinstance(value, str) else f"{value:g}"
