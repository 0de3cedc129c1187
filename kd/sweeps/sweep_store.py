"""Two stored sweeps about the paper's claims on temperature, shown until the visitor starts one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kd import paths
from kd.config.sweep import SweepConfig
from kd.errors import UserError, hindrance
from kd.sweeps.sweep_summary import by_place, place, spread
from kd.tables.cells import rounded

FOLDER = paths.MEASURED
#: Student -> what Hinton, Vinyals & Dean 2015, section 3, say of their networks with two hidden layers.
CLAIMS = {
    "mlp-30": (
        "with 30 units a layer temperatures of 2.5 to 4 work significantly better than higher or lower ones."
    ),
    "mlp-300": "with 300 or more units a layer all temperatures above 8 give fairly similar results.",
}


#: Student -> what else was measured here.
NOTES = {
    "mlp-30": (
        " After 25 epochs, on the page *The paper*, high temperatures are less far behind, "
        "and T = 2 makes the fewest errors."
    )
}


def path(student: str) -> Path:
    """Return the file of a student's stored sweep."""
    return FOLDER / f"sweep_{student}.json"


def load() -> list[dict[str, Any]]:
    """Return the stored sweeps: student, claim, ``summary`` of the result, config, cells, command, machine.

    Raises:
        UserError: a file is damaged.
    """
    sweeps = []
    for student, claim in CLAIMS.items():
        if not path(student).exists():
            continue
        try:
            stored = json.loads(path(student).read_text())
            config = SweepConfig.from_dict(stored["config"])
            sweep = {name: stored[name] for name in ("cells", "command", "machine")}
            sweeps.append(
                sweep
                | {
                    "student": student,
                    "claim": claim,
                    "config": config,
                    "summary": summary(config, sweep["cells"]) + NOTES.get(student, ""),
                }
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            if why := hindrance(error):
                raise UserError(f"The stored sweep {path(student).name} cannot be read ({why}).") from None
            raise UserError(f"The stored sweep {path(student).name} is damaged. Restore this file.") from None
    return sweeps


def summary(config: SweepConfig, cells: list[dict[str, Any]]) -> str:
    """Summarize test errors by temperature at the highest soft weight, in sentences."""
    weight, rows = max(config.values("soft_weight")), by_place(cells)
    settings = {
        "student": config.values("student")[0],
        "labels": config.values("labels")[0],
        "method": config.values("method")[0],
        "soft_weight": weight,
    }
    by_temperature = {
        t: rows[place(settings | {"temperature": t})]["test_errors"] for t in config.values("temperature")
    }
    lowest = min(by_temperature, key=lambda t: by_temperature[t]["mean"])
    shown = ", ".join(f"{_spread(errors)} at T = {t:g}" for t, errors in by_temperature.items())
    text = (
        f"Here, after {config.epochs} epochs with soft weight {weight:g}, the test errors are {shown}; "
        f"fewest at **T = {lowest:g}**."
    )
    top = max(by_temperature)
    if 8 in by_temperature and top > 8:
        change = _spread(_change(cells, settings, 8, top), "+")
        text += f" From T = 8 to T = {top:g} they change by {change}, paired by seed."
    return text


def _change(cells: list[dict[str, Any]], settings: dict[str, Any], low: float, high: float) -> dict[str, Any]:
    """Return mean and sd of the change in test errors from one temperature to another, paired by seed."""
    by_seed = {
        t: {
            cell["seed"]: cell["test_errors"]
            for cell in cells
            if place(cell) == place(settings | {"temperature": t})
        }
        for t in (low, high)
    }
    return spread([by_seed[high][seed] - errors for seed, errors in by_seed[low].items()])


def _spread(statistic: dict[str, Any], sign: str = "") -> str:
    mean = rounded(statistic["mean"], 0)
    if sign and not mean.startswith("-"):
        mean = sign + mean
    mean = mean.replace("-", "−")
    return mean if statistic["sd"] is None else f"{mean} ± {rounded(statistic['sd'], 0)}"
