"""What the command line measured of two grids, shown until somebody starts one: the paper's two claims about temperatures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kd import paths
from kd.config.grid import GridConfig
from kd.errors import UserError
from kd.sweeps.grid_summary import by_place, place, spread

FOLDER = paths.MEASURED
#: Student -> what Hinton, Vinyals & Dean 2015, section 3, say of their networks, which have two hidden layers.
CLAIMS = {
    "mlp-30": "with 30 units a layer temperatures of 2.5 to 4 work significantly better than higher or lower ones.",
    "mlp-300": "with 300 or more units a layer all temperatures above 8 give fairly similar results.",
}


#: What else was measured here.
NOTES = {
    "mlp-30": " After 25 epochs, on the page *The paper*, high temperatures are less far behind, and T = 2 makes the fewest errors."
}


def path(student: str) -> Path:
    return FOLDER / f"sweep_{student}.json"


def load() -> list[dict[str, Any]]:
    """The stored grids: student, claim, what was ``said`` to it, config, cells, command and machine.

    Raises:
        UserError: a file is damaged.
    """
    found = []
    for student, claim in CLAIMS.items():
        if not path(student).exists():
            continue
        try:
            stored = json.loads(path(student).read_text())
            config = GridConfig.from_dict(stored["config"])
            about = {name: stored[name] for name in ("cells", "command", "machine")}
            found.append(
                about
                | {
                    "student": student,
                    "claim": claim,
                    "config": config,
                    "said": said(config, about["cells"]) + NOTES.get(student, ""),
                }
            )
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(f"The stored sweep is damaged; restore {path(student).name}.") from None
    return found


def said(config: GridConfig, cells: list[dict[str, Any]]) -> str:
    """What was measured of the claim: test errors by temperature at the highest soft weight, and what the highest temperature changes against 8."""
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
    text = f"Here, after {config.epochs} epochs, with soft weight {weight:g}, test errors are {shown}; fewest at **T = {lowest:g}**."
    top = max(by_temperature)
    if 8 in by_temperature and top > 8:
        text += f" From T = 8 to {top:g} they change by {_spread(_change(cells, settings, 8, top), '+')} in pairs of the same seed."
    return text


def _change(
    cells: list[dict[str, Any]], settings: dict[str, Any], low: float, high: float
) -> dict[str, float | None]:
    by_seed = {
        t: {
            cell["seed"]: cell["test_errors"]
            for cell in cells
            if place(cell) == place(settings | {"temperature": t})
        }
        for t in (low, high)
    }
    return spread([by_seed[high][seed] - errors for seed, errors in by_seed[low].items()])


def _spread(of: dict[str, float | None], sign: str = "") -> str:
    return f"{of['mean']:{sign}.0f}".replace("-", "−") + ("" if of["sd"] is None else f" ± {of['sd']:.0f}")
