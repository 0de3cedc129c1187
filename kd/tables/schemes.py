"""All schemes on one student, each beside its control, over several seeds: the methods' table asks what is learned, this one from whom.

The student and its few labels are those of the methods' table. Each scheme trains with soft
targets (Hinton) at the default settings, and every stage for as many epochs. With 100 labels
the other images have none, so that whoever has no teacher has only these 100 to begin from.
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
from kd.experiments.base import Distillation
from kd.tables import cells, comparison
from kd.tables.comparison import FEW, STUDENT
from kd.teachers import averaged, cached, catalogue

SEEDS = 5
EPOCHS = comparison.EPOCHS
STORED = paths.MEASURED / "schemes.json"
COMMAND = "python -m kd schemes --json > kd/measured/schemes.json"

#: Title in the table -> the settings that it stands for.
SCHEMES: dict[str, dict[str, Any]] = {
    "One teacher": {},
    "Two teachers averaged": {"teacher": "cnn+vit"},
    "Through an assistant": {"scheme": "assistant", "assistant": "cnn-small"},
    "Born again, one generation (Tf-KD self)": {"scheme": "born-again", "generations": 1},
    "Born again, two generations": {"scheme": "born-again", "generations": 2},
    "Two students together": {"scheme": "mutual"},
    "From its own depth": {"scheme": "exits"},
}
COLUMNS = {"few": FEW, "all": 0}  # labels; 0 is all


def rows(epochs: int = EPOCHS) -> dict[str, DistilConfig]:
    """What is trained, by the row's name."""
    plain = DistilConfig(student=STUDENT, epochs=epochs)
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
    """Computes all cells that are not kept yet, several at once, and returns the table.

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
    return cells.path("schemes", (row, seed), [rows(epochs)[row]])


def run_cell(
    epochs: int, row: str, seed: int, progress: cells.Progress = lambda share: None
) -> dict[str, Any]:
    """Trains a row with one seed, or goes on where it was stopped, and keeps what came out on the test set."""
    config = rows(epochs)[row].replace(seed=seed)
    experiment = Distillation(config, _mnist(), _teacher(config.teacher))
    return cells.finish(cell_path(epochs, row, seed), (row, seed), experiment, progress)


@functools.cache
def _mnist() -> digits.Mnist:
    return cells.full_mnist()


@functools.cache
def _teacher(name: str) -> cached.CachedTeacher | averaged.MeanTeacher:
    return catalogue.load(name, training_device())


def table(outcomes: list[dict[str, Any]]) -> dict[str, Any]:
    """Test accuracies in percent, mean and sd over the seeds, and the gain over the control of the same seed."""
    by_row = cells.by_row(outcomes)
    first = {column: by_row[f"{column}-0"] for column in COLUMNS}
    return cells.about(outcomes, COMMAND, SEEDS) | {
        "student": STUDENT,
        "labels": FEW,
        # Of one student the control is one, whoever teaches: the same weights, batches and labels.
        "control": {
            column: cells.spread(list(comparison.accuracies(same, "control").values()))
            for column, same in first.items()
        },
        "schemes": {
            title: {column: _gain(by_row[f"{column}-{i}"]) for column in COLUMNS}
            for i, title in enumerate(SCHEMES)
        },
    }


def _gain(same: list[dict[str, Any]]) -> dict[str, Any]:
    student, control = comparison.accuracies(same, "student"), comparison.accuracies(same, "control")
    values = list(student.values())
    return {
        "values": values,
        **cells.spread(values),
        "gain": cells.spread([value - control[seed] for seed, value in student.items()]),
    }


def load() -> dict[str, Any] | None:
    """The table that was measured and stored, or None where there is none yet.

    Raises:
        UserError: the file is damaged.
    """
    return cells.stored(STORED, COMMAND)


def text(result: Mapping[str, Any]) -> str:
    """The table to read in a terminal."""
    control = result["control"]
    lines = [
        f"{'% right on the test set (gain)':42}{str(result['labels']) + ' labels':>26}{'all labels':>26}",
        f"{'control':42}{cells.shown(control['few']):>26}{cells.shown(control['all']):>26}",
        *(
            f"{title:42}{comparison.shown(of['few']):>26}{comparison.shown(of['all']):>26}"
            for title, of in result["schemes"].items()
        ),
        f"{result['student']}, {result['epochs']} epochs a stage, {result['seeds']} seeds, {result['core_minutes']:.0f} core-minutes",
    ]
    return "\n".join(lines)
