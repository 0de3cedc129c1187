"""Summarize a sweep over its seeds: means, standard deviations and the difference from the control."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from kd.config.sweep import SweepConfig
from kd.objectives import METHODS
from kd.sweeps.sweep_cells import cells as cells_of

#: Measures of a cell -> their names.
MEASURES = {
    "validation_accuracy": "Validation accuracy",
    "validation_agreement": "Agreement with the teacher (validation)",
    "test_errors": "Test errors",
}
#: Measures of a cell -> column headings of a table with one row per seed.
COLUMNS = {
    "validation_accuracy": "validation accuracy",
    "validation_agreement": "validation agreement",
    "test_errors": "test errors",
    "test_accuracy": "test accuracy",
    "agreement": "test agreement",
}
_SETTINGS = ("student", "labels", "method", "temperature", "soft_weight")


Place = tuple  # student, labels, method, temperature, soft weight


def place(settings: Mapping[str, Any]) -> Place:
    """Return what a cell shares with those of other seeds; None for settings its method does not read."""
    if settings.get("soft_weight") == 0:  # a control has no method
        return settings["student"], settings["labels"], None, None, 0.0
    read = METHODS[settings["method"]].settings
    return tuple(
        settings.get(name) if name in read or name not in ("temperature", "soft_weight") else None
        for name in _SETTINGS
    )


def means(cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one row per place: its settings and the mean of each measure over the seeds.

    A row has ``n``, the number of seeds, ``diverged``, the number that diverged, and for each
    measure ``mean``, ``sd`` (None for one seed) and, unless it is a control's, ``gain``: mean and sd
    of the difference from the control of the same seed.

    Args:
        cells: from sweep.described(); diverged cells count only in ``diverged``.
    """
    controls = {(cell["student"], cell["labels"], cell["seed"]): cell for cell in cells if cell["control"]}
    same_place: dict[Place, list[Mapping[str, Any]]] = {}
    for cell in cells:
        same_place.setdefault(place(cell), []).append(cell)
    rows = []
    for same in same_place.values():
        finite = [cell for cell in same if "diverged" not in cell]
        row: dict[str, Any] = {name: same[0][name] for name in (*_SETTINGS, "control") if name in same[0]}
        row |= {"n": len(finite), "diverged": len(same) - len(finite)}
        pairs = [
            (cell, controls.get((cell["student"], cell["labels"], cell["seed"]), {}))
            for cell in finite
            if not cell["control"]
        ]
        for measure in (*MEASURES, "test_accuracy", "agreement"):
            row[measure] = spread([cell[measure] for cell in finite]) if finite else None
            gains = [cell[measure] - control[measure] for cell, control in pairs if measure in control]
            if gains:
                row[measure]["gain"] = spread(gains)
        rows.append(row)
    return rows


def by_place(cells: Sequence[Mapping[str, Any]]) -> dict[Place, dict[str, Any]]:
    """Return the rows of means() by their place."""
    return {place(row): row for row in means(cells)}


def best(cells: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the row of the student with the highest validation accuracy, among those with most seeds.

    None if no student has ended.
    """
    taught = [row for row in means(cells) if not row["control"] and row["n"]]
    most = max((row["n"] for row in taught), default=0)
    return max(
        (row for row in taught if row["n"] == most),
        key=lambda row: row["validation_accuracy"]["mean"],
        default=None,
    )


def seeds(cells: Sequence[Mapping[str, Any]], where: Place) -> list[dict[str, Any]]:
    """Return the cells at a place as table rows, one per seed, each with its control's errors."""
    controls = {cell["seed"]: cell for cell in cells if cell["control"] and place(cell)[:2] == where[:2]}
    rows = []
    for cell in cells:
        if place(cell) != where:
            continue
        row = {"seed": cell["seed"]} | {name: cell.get(measure) for measure, name in COLUMNS.items()}
        if "diverged" in cell:
            row["state"] = "diverged"
        elif not cell["control"] and "test_errors" in controls.get(cell["seed"], {}):
            row["control errors"] = controls[cell["seed"]]["test_errors"]
            row["fewer errors than control"] = row["control errors"] - cell["test_errors"]
        rows.append(row | {"seconds": cell["seconds"]})
    return rows


def under_way(
    config: SweepConfig, live: Mapping[int, Mapping[str, float | None]]
) -> dict[Place, Mapping[str, float | None]]:
    """Return the latest measures of cells in training (from sweep.read()) by place."""
    places = {cell.index: place(cell.settings) for cell in cells_of(config)} if live else {}
    return {places[index]: measures for index, measures in live.items()}


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Return the mean and the standard deviation (None for one value)."""
    return {"mean": statistics.mean(values), "sd": statistics.stdev(values) if len(values) > 1 else None}


def text(cells: Sequence[Mapping[str, Any]]) -> str:
    """Return the means as a plain-text table."""
    lines = [
        f"{'student':14}{'labels':>7}  {'method':16}{'T':>5}{'weight':>7}{'n':>3}"
        f"{'validation':>18}{'agreement':>11}{'test errors':>16}{'less than control':>20}"
    ]
    for row in means(cells):
        settings = (
            f"{row['student']:14}{row['labels'] or 'all':>7}  {row.get('method', 'control'):16}"
            f"{row.get('temperature', ''):>5}{row.get('soft_weight', ''):>7}{row['n']:>3}"
        )
        if not row["n"]:
            lines.append(f"{settings}  diverged; try a lower learning rate")
            continue
        accuracy, agreement, errors = (row[measure] for measure in MEASURES)
        gain = errors.get("gain")
        lines.append(
            f"{settings}{_shown(accuracy, 100, 2, '%'):>18}{agreement['mean']:>11.2%}"
            f"{_shown(errors, 1, 1):>16}{_shown(gain, -1, 1) if gain else '':>20}"
        )
    return "\n".join(lines)


def _shown(statistic: Mapping[str, Any], factor: float, digits: int, unit: str = "") -> str:
    deviation = statistic["sd"]
    suffix = "" if deviation is None else f" ± {abs(factor) * deviation:.{digits}f}"
    return f"{factor * statistic['mean']:.{digits}f}{suffix}{unit}"
