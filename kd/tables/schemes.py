"""Compare all schemes on one student, each with its control, over several seeds.

The methods' table compares what is learned, this one compares who teaches. Student and labels are those of
the methods' table. Each scheme uses soft targets (Hinton) at the default settings, and every stage has
the same number of epochs. With 100 labels the other images have none, so a network without a teacher
learns from these 100 alone.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kd import paths
from kd.config.distil import DistilConfig
from kd.data import digits
from kd.device import training_device
from kd.experiments.base import NetworkTeacher
from kd.experiments.distil import Distillation
from kd.tables import cells, methods
from kd.tables.methods import FEW, STUDENT
from kd.teachers import catalogue

SEEDS = 5
EPOCHS = methods.EPOCHS
STORED = paths.MEASURED / "schemes.json"
COMMAND = "python -m kd schemes --json > kd/measured/schemes.json"

#: Title in the table -> its settings.
SCHEMES: dict[str, dict[str, Any]] = {
    "One teacher": {},
    "Two teachers averaged": {"teacher": f"{cells.TEACHER}+vit"},
    "Through an assistant": {"scheme": "assistant", "assistant": "cnn-small"},
    "Born again, one generation (Tf-KD self)": {"scheme": "born-again", "generations": 1},
    "Born again, two generations": {"scheme": "born-again", "generations": 2},
    "Two students together": {"scheme": "mutual"},
    "From its own depth": {"scheme": "exits"},
}
COLUMNS = {"few": FEW, "all": 0}  # column -> number of labels; 0 is all


def rows(epochs: int = EPOCHS) -> dict[str, DistilConfig]:
    """Return the configs to train, by row."""
    plain = DistilConfig(student=STUDENT, teacher=cells.TEACHER, epochs=epochs)
    return {
        f"{column}-{i}": plain.replace(**changes, labels=labels)
        for column, labels in COLUMNS.items()
        for i, changes in enumerate(SCHEMES.values())
    }


def run(
    seeds: int = SEEDS,
    epochs: int = EPOCHS,
    progress: cells.Progress = lambda share: None,
    workers: int | None = None,
) -> dict[str, Any]:
    """Compute all cells that are not stored yet, several at once, and return the table.

    Raises:
        UserError: the full MNIST or a teacher is not there.
    """
    cells.full_mnist()
    cost = {
        (name, seed): float(config.total_epochs) * (1.8 if config.labels else 1.0)
        for name, config in rows(epochs).items()
        for seed in range(seeds)
    }
    work = functools.partial(run_cell, epochs)
    return table(cells.compute(cost, lambda cell: cell_path(epochs, *cell), work, progress, workers=workers))


def cell_path(epochs: int, row: str, seed: int) -> Path:
    """Return the file of a cell."""
    return cells.path("schemes", (row, seed), [rows(epochs)[row]])


def run_cell(
    epochs: int, row: str, seed: int, progress: cells.Progress = lambda share: None
) -> dict[str, Any]:
    """Train a row with one seed, or resume it, and store the test scores."""
    config = rows(epochs)[row].replace(seed=seed)
    experiment = Distillation(config, _mnist(), _teacher(config.teacher))
    return cells.finish(cell_path(epochs, row, seed), (row, seed), experiment, progress)


@functools.cache
def _mnist() -> digits.Mnist:
    return cells.full_mnist()


@functools.cache
def _teacher(name: str) -> NetworkTeacher:
    return catalogue.load(name, training_device())


def table(outcomes: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the table: test accuracies in per cent and gains over the control, mean and sd over seeds."""
    by_row = cells.by_row(outcomes)
    first = {column: by_row[f"{column}-0"] for column in COLUMNS}
    return cells.about(outcomes, COMMAND, SEEDS) | {
        "student": STUDENT,
        "labels": FEW,
        # A student has the same control whoever teaches it: same weights, batches and labels.
        "control": {
            column: cells.spread(list(methods.accuracies(same, "control").values()))
            for column, same in first.items()
        },
        "schemes": {
            title: {column: _gain(by_row[f"{column}-{i}"]) for column in COLUMNS}
            for i, title in enumerate(SCHEMES)
        },
    }


def _gain(row: list[dict[str, Any]]) -> dict[str, Any]:
    student, control = methods.accuracies(row, "student"), methods.accuracies(row, "control")
    values = list(student.values())
    return {
        "values": values,
        **cells.spread(values),
        "gain": cells.spread([value - control[seed] for seed, value in student.items()]),
    }


def load() -> dict[str, Any] | None:
    """Return the stored table, or None if there is none.

    Raises:
        UserError: the file is damaged.
    """
    return cells.stored(STORED, COMMAND)


def text(result: Mapping[str, Any]) -> str:
    """Return the table as plain text."""
    control = result["control"]
    few = f"{result['labels']} labels"
    lines = [
        f"{'test accuracy, % (gain)':42}{few:>26}{'all labels':>26}",
        f"{'control':42}{cells.shown(control['few']):>26}{cells.shown(control['all']):>26}",
    ]
    for title, columns in result["schemes"].items():
        lines.append(f"{title:42}{methods.shown(columns['few']):>26}{methods.shown(columns['all']):>26}")
    lines.append(
        f"{result['student']}, {result['epochs']} epochs per stage, {result['seeds']} seeds, "
        f"{result['core_minutes']:.0f} core-minutes"
    )
    return "\n".join(lines)
