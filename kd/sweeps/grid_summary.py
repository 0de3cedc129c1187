"""What a grid came to over its seeds: means, deviations and the difference from the control."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from kd.config.grid import GridConfig
from kd.objectives import METHODS
from kd.sweeps import grid

#: Measures of a cell -> what they are called.
MEASURES = {
    "validation_accuracy": "Right, of the validation images",
    "validation_agreement": "Agreement with the teacher, on the validation images",
    "test_errors": "Errors, in the test images",
}
#: Measures of a cell -> columns of a table of one place's seeds.
COLUMNS = {
    "validation_accuracy": "right, validation",
    "validation_agreement": "agreement, validation",
    "test_errors": "test errors",
    "test_accuracy": "right, test",
    "agreement": "agreement, test",
}
_SETTINGS = ("student", "labels", "method", "temperature", "soft_weight")


Place = tuple


def place(settings: Mapping[str, Any]) -> Place:
    """What a cell shares with those of other seeds: student, labels, method, temperature, soft weight; None of what its method does not read."""
    if settings.get("soft_weight") == 0:  # a control has no method
        return settings["student"], settings["labels"], None, None, 0.0
    read = METHODS[settings["method"]].settings
    return tuple(
        settings.get(name) if name in read or name not in ("temperature", "soft_weight") else None
        for name in _SETTINGS
    )


def means(cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each place its settings, ``n`` seeds, and of each measure ``mean``, ``sd`` (None of one seed) and, but for
    controls, ``gain``: mean and sd over the seeds of its difference from the control of the same seed.

    Args:
        cells: of grid.described(); those that went out of bounds are counted under ``diverged`` alone.
    """
    controls = {(cell["student"], cell["labels"], cell["seed"]): cell for cell in cells if cell["control"]}
    same_place: dict[Place, list[Mapping[str, Any]]] = {}
    for cell in cells:
        same_place.setdefault(place(cell), []).append(cell)
    found = []
    for same in same_place.values():
        sound = [cell for cell in same if "diverged" not in cell]
        about = {name: same[0][name] for name in (*_SETTINGS, "control") if name in same[0]} | {
            "n": len(sound),
            "diverged": len(same) - len(sound),
        }
        for measure in (*MEASURES, "test_accuracy", "agreement"):
            values = [cell[measure] for cell in sound]
            pairs = [
                (cell, controls.get((cell["student"], cell["labels"], cell["seed"]), {}))
                for cell in sound
                if not cell["control"]
            ]
            gains = [cell[measure] - control[measure] for cell, control in pairs if measure in control]
            about[measure] = spread(values) | ({"gain": spread(gains)} if gains else {}) if values else None
        found.append(about)
    return found


def by_place(cells: Sequence[Mapping[str, Any]]) -> dict[Place, dict[str, Any]]:
    """means(), found by their place."""
    return {place(row): row for row in means(cells)}


def best(cells: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Of means() the student that reads most validation images right, of those with most seeds; None before any has ended."""
    taught = [row for row in means(cells) if not row["control"] and row["n"]]
    most = max((row["n"] for row in taught), default=0)
    return max(
        (row for row in taught if row["n"] == most),
        key=lambda row: row["validation_accuracy"]["mean"],
        default=None,
    )


def seeds(cells: Sequence[Mapping[str, Any]], where: Place) -> list[dict[str, Any]]:
    """The cells at a place, one row a seed, beside their controls, as a table has them."""
    controls = {cell["seed"]: cell for cell in cells if cell["control"] and place(cell)[:2] == where[:2]}
    rows = []
    for cell in cells:
        if place(cell) != where:
            continue
        row = {"seed": cell["seed"]} | {name: cell.get(measure) for measure, name in COLUMNS.items()}
        if "diverged" in cell:
            row["state"] = "out of bounds"
        elif not cell["control"] and "test_errors" in controls.get(cell["seed"], {}):
            row["control's errors"] = controls[cell["seed"]]["test_errors"]
            row["fewer than the control"] = row["control's errors"] - cell["test_errors"]
        rows.append(row | {"seconds": cell["seconds"]})
    return rows


def under_way(
    config: GridConfig, live: Mapping[int, Mapping[str, float | None]]
) -> dict[Place, Mapping[str, float | None]]:
    """What is known of cells that train, of grid.read(), by place."""
    places = {cell.index: place(cell.settings) for cell in grid.cells(config)} if live else {}
    return {places[index]: known for index, known in live.items()}


def spread(values: Sequence[float]) -> dict[str, float | None]:
    return {"mean": statistics.mean(values), "sd": statistics.stdev(values) if len(values) > 1 else None}


def text(cells: Sequence[Mapping[str, Any]]) -> str:
    """The means as a table to read."""
    lines = [
        f"{'student':14}{'labels':>7}  {'method':16}{'T':>5}{'weight':>7}{'n':>3}{'validation':>18}{'agreement':>11}{'test errors':>16}{'less than control':>20}"
    ]
    for row in means(cells):
        head = f"{row['student']:14}{row['labels'] or 'all':>7}  {row.get('method', 'control'):16}{row.get('temperature', ''):>5}{row.get('soft_weight', ''):>7}{row['n']:>3}"
        if not row["n"]:
            lines.append(f"{head}  out of bounds; try a lower learning rate")
            continue
        accuracy, agreement, errors = (row[measure] for measure in MEASURES)
        gain = errors.get("gain")
        lines.append(
            f"{head}{_shown(accuracy, 100, 2, '%'):>18}{agreement['mean']:>11.2%}{_shown(errors, 1, 1):>16}{_shown(gain, -1, 1) if gain else '':>20}"
        )
    return "\n".join(lines)


def _shown(of: Mapping[str, float | None], times: float, digits: int, unit: str = "") -> str:
    deviation = "" if of["sd"] is None else f" ± {abs(times) * of['sd']:.{digits}f}"
    return f"{times * of['mean']:.{digits}f}{deviation}{unit}"
