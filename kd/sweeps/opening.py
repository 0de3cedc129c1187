"""Open a cell of a sweep as a run of its own, with its control, without training anything again."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from kd import paths, permissions
from kd.config import kinds
from kd.config.distil import DistilConfig
from kd.config.sweep import SweepConfig
from kd.errors import UserError
from kd.store import quota, runs
from kd.sweeps import sweep_weights
from kd.sweeps.sweep_cells import SweepCell, cells, group_of

_lock = threading.Lock()


def id_of(sweep: str, cell: int, token: str) -> str:
    """Return the id of the run that a cell becomes for a visitor.

    It is always the same, as hard to guess as the visitor's token, and sorts next to its sweep.
    """
    digest = hashlib.sha256(f"{token} {sweep} {cell}".encode()).hexdigest()
    return f"{sweep[:15]}-{digest[:16]}"


def open_cell(sweep: str, index: int, token: str) -> runs.Run:
    """Return the run of a cell: the first call stores it, later ones load it.

    Args:
        sweep: the id of a stored sweep.
        index: the cell's index in it.
        token: the visitor's secret, who becomes the run's owner.

    Raises:
        UserError: the cell's network was not kept, something is damaged, there is no room, or only the
            presenter may open cells.
    """
    id = id_of(sweep, index, token)
    with _lock:
        if (paths.home() / id).is_dir():
            return runs.load(id)
        owner = runs.owner_digest(token)
        permissions.check(owner, "open a sweep's cells as runs")
        run = runs.load(sweep)
        if not isinstance(run.config, SweepConfig):
            raise UserError(f"{run.name} is not a sweep; choose a sweep on the Runs page.")
        quota.check()
        cell = next((cell for cell in cells(run.config) if cell.index == index), None)
        if cell is None:
            raise UserError(f"{run.name} has no such cell.")
        control = control_of(run.config, cell)
        opened = {"student": cell}
        if control.index in sweep_weights.held(run):
            opened["control"] = control
        trained = {role: sweep_weights.load(run, which) for role, which in opened.items()}
        rows = curve(run.config, run.metrics(), opened)
        return runs.save(
            id,
            cell.config,
            "done",
            rows,
            trained,
            _measures(run, opened, rows),
            owner,
            name=_name(cell.config),
            message=_message(run.id, run.config, cell),
        )


def control_of(config: SweepConfig, cell: SweepCell) -> SweepCell:
    """Return the control with a cell's network, labels and seed; a control's is itself."""
    same = (cell.config.seed, cell.config.student, cell.config.labels)
    return next(
        other
        for other in cells(config)
        if other.control and (other.config.seed, other.config.student, other.config.labels) == same
    )


def curve(
    config: SweepConfig, rows: Sequence[Mapping[str, float]], opened: Mapping[str, SweepCell]
) -> list[dict[str, float]]:
    """Return what a sweep's rows say about some cells, as the rows of a run of their own.

    Args:
        config: the sweep.
        rows: its rows.
        opened: "student" or "control" -> its cell. If they trained in different groups, only the ends of
            epochs are common to both.
    """
    by_step: dict[int, dict[str, float]] = {}
    places = {}
    for role, cell in opened.items():
        group = group_of(config, cell)
        places[role] = group, [other.index for other in group.cells].index(cell.index)
    together = len({group.index for group, _ in places.values()}) == 1
    for role, (group, i) in places.items():
        group_rows = [
            row for row in rows if row["group"] == group.index and (together or row["whole_validation"])
        ]
        end = next((row for row in reversed(group_rows) if f"seconds {i}" in row), None)
        if end is None:
            continue
        cell_steps = round(end["step"] / end["epoch"] / config.count)
        for row in group_rows:
            # A sweep counts the steps and seconds of all its cells.
            step = cell_steps - round((end["step"] - row["step"]) / len(group.cells))
            seconds = max(0.0, end[f"seconds {i}"] - (end["seconds"] - row["seconds"]) / len(group.cells))
            if not 0 < step <= cell_steps:
                continue
            point = by_step.setdefault(
                step,
                {
                    "step": step,
                    "epoch": step / cell_steps * config.epochs,
                    "seconds": 0.0,
                    "images_per_second": row["images_per_second"] / len(group.cells),
                    "whole_validation": row["whole_validation"],
                },
            )
            point["seconds"] += seconds
            # The rows taken over from a stopped sweep have only the latter.
            accuracy = row.get(f"validation {i}", row.get(f"validation_accuracy {i}"))
            if accuracy is not None:
                point[f"validation {role}"] = accuracy
            if f"validation agreement {i}" in row:
                point[f"agreement {role}"] = row[f"validation agreement {i}"]
    return [by_step[step] for step in sorted(by_step)]


def _measures(
    run: runs.Run, opened: Mapping[str, SweepCell], rows: Sequence[Mapping[str, float]]
) -> dict[str, Any]:
    """Return the measures of an opened run, which the sweep took on the test images."""
    try:
        by_cell = {outcome["cell"]: outcome for outcome in run.measures["cells"]}
        scores = {
            role: {
                name: by_cell[cell.index][name]
                for name in ("test_accuracy", "test_errors", "agreement", "kl")
            }
            for role, cell in opened.items()
        }
        shared = {
            name: run.measures[name]
            for name in ("source", "data", "train_images", "test_images", "device", "versions")
        }
        seconds = sum(by_cell[index]["seconds"] for index in {cell.index for cell in opened.values()})
        teacher = run.measures["taught"]
    except (KeyError, TypeError):
        raise UserError(
            f"The measures of {run.name} are damaged, so its cells cannot be opened. "
            "Open the cell's settings instead."
        ) from None
    return (
        {"seconds": seconds, "steps": rows[-1]["step"] if rows else 0}
        | shared
        | {"models": scores | {"teacher": teacher}, "sweep": run.id}
    )


def _name(config: DistilConfig) -> str:
    """Return the name of the run that a cell with these settings becomes."""
    if not config.reads("soft_weight"):
        name = kinds.of(config).default_name(config).rpartition(" ×")[0]
    elif config.soft_weight:
        name = f"{kinds.of(config).default_name(config).rpartition(' ×')[0]}, weight {config.soft_weight:g}"
    else:
        name = f"{config.student}, control"
    return f"{name[: runs.NAME_LENGTH - 30]}, seed {config.seed}, of a sweep"


def _message(sweep: str, config: SweepConfig, cell: SweepCell) -> str:
    """Say how the cell was trained in the sweep with this id."""
    group = group_of(config, cell)
    if len(group.cells) > 1:
        trained = f"It was trained there with {len(group.cells) - 1} others on the same batches"
    else:
        trained = "It was trained there alone"
    own = "; it is its own control" if cell.control else ""
    return (
        f"{runs.FROM_SWEEP} {sweep}. {trained}{own}. A sweep keeps accuracies over the epochs, but no losses."
    )
