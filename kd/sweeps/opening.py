"""A cell of a sweep as a run of its own: the student that was trained, beside its control, without training anything again."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from kd import paths, permissions
from kd.config import kinds
from kd.config.distil import DistilConfig
from kd.config.grid import GridConfig
from kd.errors import UserError
from kd.store import quota, runs
from kd.sweeps import grid, grid_weights
from kd.sweeps.grid import Cell

_one_by_one = threading.Lock()


def id_of(sweep: str, cell: int, token: str) -> str:
    """The id of the run that a cell becomes for this visitor: always the same, and no more to be guessed than their token. It sorts beside its sweep."""
    digest = hashlib.sha256(f"{token} {sweep} {cell}".encode()).hexdigest()
    return f"{sweep[:15]}-{digest[:16]}"


def open_cell(sweep: str, index: int, token: str) -> runs.Run:
    """The run that a cell is opened as: stored on the first call, found again on the next.

    Args:
        sweep: the id of a stored sweep.
        token: the visitor's secret; the run is theirs.

    Raises:
        UserError: the cell's network was not kept, something is damaged, there is no room, or only the presenter may.
    """
    id = id_of(sweep, index, token)
    with _one_by_one:
        if (paths.home() / id).is_dir():
            return runs.load(id)
        owner = runs.owner_digest(token)
        permissions.check(owner, "open a sweep's cells as runs")
        run = runs.load(sweep)
        if not isinstance(run.config, GridConfig):
            raise UserError(f"{run.name} is no sweep; choose one on the Runs page.")
        quota.check()
        cell = next((cell for cell in grid.cells(run.config) if cell.index == index), None)
        if cell is None:
            raise UserError(f"{run.name} has no such cell.")
        control = control_of(run.config, cell)
        has_control = control.index in grid_weights.held(run)
        trained = {"student": grid_weights.load(run, cell)} | (
            {"control": grid_weights.load(run, control)} if has_control else {}
        )
        whose = {"student": cell} | ({"control": control} if has_control else {})
        rows = curve(run.config, run.metrics(), whose)
        return runs.save(
            id,
            cell.config,
            "done",
            rows,
            trained,
            _measures(run, whose, rows),
            owner,
            name=_name(cell.config),
            message=_told(run, cell, control),
        )


def control_of(config: GridConfig, cell: Cell) -> Cell:
    """The cell that learned from the labels alone, of the same network, labels and seed; of a control itself."""
    same = (cell.config.seed, cell.config.student, cell.config.labels)
    return next(
        other
        for other in grid.cells(config)
        if other.control and (other.config.seed, other.config.student, other.config.labels) == same
    )


def curve(
    config: GridConfig, rows: Sequence[Mapping[str, float]], whose: Mapping[str, Cell]
) -> list[dict[str, float]]:
    """What a sweep's rows tell of some cells, as the rows of a run of their own.

    Args:
        whose: "student" or "control" -> its cell. Where they trained in different groups, only the ends of epochs are common to both.
    """
    by_step: dict[int, dict[str, float]] = {}
    places = {
        who: next(
            (group, i)
            for group in grid.groups(config)
            for i, other in enumerate(group.cells)
            if other.index == cell.index
        )
        for who, cell in whose.items()
    }
    together = len({group.index for group, _ in places.values()}) == 1
    for who, (group, i) in places.items():
        mine = [row for row in rows if row["group"] == group.index and (together or row["whole_validation"])]
        end = next((row for row in reversed(mine) if f"seconds {i}" in row), None)
        if end is None:
            continue
        each = round(end["step"] / end["epoch"] / config.count)  # steps of a cell
        for row in mine:
            # A sweep counts the steps and seconds of all its cells.
            step = each - round((end["step"] - row["step"]) / len(group.cells))
            seconds = max(0.0, end[f"seconds {i}"] - (end["seconds"] - row["seconds"]) / len(group.cells))
            if not 0 < step <= each:
                continue
            found = by_step.setdefault(
                step,
                {
                    "step": step,
                    "epoch": step / each * config.epochs,
                    "seconds": 0.0,
                    "images_per_second": row["images_per_second"] / len(group.cells),
                    "whole_validation": row["whole_validation"],
                },
            )
            found["seconds"] += seconds
            accuracy = row.get(
                f"validation {i}", row.get(f"validation_accuracy {i}")
            )  # the latter alone of what was taken over from a stopped sweep
            if accuracy is not None:
                found[f"validation {who}"] = accuracy
            if f"validation agreement {i}" in row:
                found[f"agreement {who}"] = row[f"validation agreement {i}"]
    return [by_step[step] for step in sorted(by_step)]


def _measures(
    run: runs.Run, whose: Mapping[str, Cell], rows: Sequence[Mapping[str, float]]
) -> dict[str, Any]:
    """As of a run by itself; the sweep measured them on the test images."""
    try:
        by_cell = {found["cell"]: found for found in run.measures["cells"]}
        scores = {
            who: {
                name: by_cell[cell.index][name]
                for name in ("test_accuracy", "test_errors", "agreement", "kl")
            }
            for who, cell in whose.items()
        }
        about = {
            name: run.measures[name]
            for name in ("source", "data", "train_images", "test_images", "device", "versions")
        }
        seconds = sum(by_cell[index]["seconds"] for index in {cell.index for cell in whose.values()})
        teacher = run.measures["taught"]
    except (KeyError, TypeError):
        raise UserError(
            f"The measures of {run.name} are damaged, so that its cells cannot be opened; open the cell's settings instead."
        ) from None
    return (
        {"seconds": seconds, "steps": rows[-1]["step"] if rows else 0}
        | about
        | {"models": scores | {"teacher": teacher}, "sweep": run.id}
    )


def _name(config: DistilConfig) -> str:
    what = (
        f"{config.student}, control"
        if not config.soft_weight and config.reads("soft_weight")
        else kinds.of(config).default_name(config).rpartition(" ×")[0]
    )
    if config.soft_weight and config.reads("soft_weight"):
        what += f", weight {config.soft_weight:g}"
    return f"{what[: runs.NAME_LENGTH - 30]}, seed {config.seed}, of a sweep"


def _told(run: runs.Run, cell: Cell, control: Cell) -> str:
    group = next(
        group for group in grid.groups(run.config) if any(other.index == cell.index for other in group.cells)
    )
    shared = (
        f"It was trained there together with {len(group.cells) - 1} others on the same batches"
        if len(group.cells) > 1
        else "It was trained there by itself"
    )
    alone = "; it is its own control" if cell.control else ""
    return f"{runs.FROM_SWEEP} {run.id}. {shared}{alone}. A sweep keeps accuracies over the epochs, but no losses."
