"""Compare all methods on one student, each with its control, over several seeds.

The student is a CNN, because one method compares feature maps. All settings are the defaults. With all
labels the gain of any method is small; with 100 labels, and none for the other images, the table shows
what each method learns from the teacher. Methods that compare hidden layers are also tried alone,
without soft targets.
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
from kd.objectives import METHODS
from kd.tables import cells
from kd.teachers import catalogue

SEEDS = 5
EPOCHS = 3
STUDENT = "cnn-tiny"
FEW = 100
BASE = "hinton"  # the method whose rows contain the control
STORED = paths.MEASURED / "methods.json"
COMMAND = "python -m kd methods --json > kd/measured/methods.json"


def rows(epochs: int = EPOCHS) -> dict[str, DistilConfig]:
    """Return the configs to train, by row."""
    plain = DistilConfig(student=STUDENT, teacher=cells.TEACHER, epochs=epochs)
    configs = {}
    for name, method in METHODS.items():
        configs[f"{name}-{FEW}"] = plain.replace(method=name, labels=FEW)
        configs[f"{name}-all"] = plain.replace(method=name)
        if method.feature_view:
            configs[f"{name}-alone-{FEW}"] = plain.replace(method=name, labels=FEW, soft_weight=0.0)
    return configs


def run(
    seeds: int = SEEDS,
    epochs: int = EPOCHS,
    progress: cells.Progress = lambda share: None,
    workers: int | None = None,
) -> dict[str, Any]:
    """Compute all cells that are not stored yet, several at once, and return the table.

    Raises:
        UserError: the full MNIST is not there.
    """
    cells.full_mnist()
    # With few labels every batch comes with a second one of labelled images. Cells go row by row, so that
    # the teacher's features in _data_and_teacher() are reused.
    cost = {
        (name, seed): (1.8 if config.labels else 1.0) * (2 if config.method == BASE else 1)
        for name, config in rows(epochs).items()
        for seed in range(seeds)
    }
    work = functools.partial(run_cell, epochs)
    return table(cells.compute(cost, lambda cell: cell_path(epochs, *cell), work, progress, workers=workers))


def cell_path(epochs: int, row: str, seed: int) -> Path:
    """Return the file of a cell."""
    return cells.path("methods", (row, seed), [rows(epochs)[row]])


def run_cell(
    epochs: int, row: str, seed: int, progress: cells.Progress = lambda share: None
) -> dict[str, Any]:
    """Train a row with one seed, or resume it, and store the test scores."""
    path, config = cell_path(epochs, row, seed), rows(epochs)[row].replace(seed=seed)
    mnist, cnn = _data_and_teacher()
    experiment = Distillation(config, mnist, cnn)
    if config.method != BASE:
        # One control serves all methods: its weights, batches and labels are bitwise the same.
        stage = experiment.stages[0]
        experiment.stages = [lambda earlier: (stage(earlier)[0][:1], experiment.teacher)]
    return cells.finish(path, (row, seed), experiment, progress)


@functools.cache
def _data_and_teacher() -> tuple[digits.Mnist, NetworkTeacher]:
    """Return data and teacher, once per process, so that cells share the teacher's cached features."""
    return cells.full_mnist(), catalogue.load(cells.TEACHER, training_device())


def table(outcomes: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the table: test accuracies in per cent and gains over the control, mean and sd over seeds."""
    by_row = cells.by_row(outcomes)
    columns = {"few": f"-{FEW}", "all": "-all", "alone": f"-alone-{FEW}"}
    few, every = (accuracies(by_row[f"{BASE}{columns[column]}"], "control") for column in ("few", "all"))
    control = {"few": few, "all": every, "alone": few}
    return cells.about(outcomes, COMMAND, SEEDS) | {
        "student": STUDENT,
        "labels": FEW,
        "teacher": 100 * outcomes[0]["models"]["teacher"]["test_accuracy"],
        "control": {column: cells.spread(list(control[column].values())) for column in ("few", "all")},
        "methods": {
            name: {
                column: _gain(by_row[name + ending], control[column])
                for column, ending in columns.items()
                if name + ending in by_row
            }
            for name in METHODS
        },
    }


def accuracies(row: list[dict[str, Any]], role: str) -> dict[int, float]:
    """Return seed -> test accuracy in per cent of a network, from the cells of one row."""
    return {cell["seed"]: 100 * cell["models"][role]["test_accuracy"] for cell in row}


def _gain(row: list[dict[str, Any]], control: Mapping[int, float]) -> dict[str, Any]:
    student = accuracies(row, "student")
    gains = [value - control[seed] for seed, value in student.items()]
    agreement = [100 * cell["models"]["student"]["agreement"] for cell in row]
    values = list(student.values())
    return {
        "values": values,
        **cells.spread(values),
        "gain": cells.spread(gains),
        "agreement": cells.spread(agreement),
    }


def load() -> dict[str, Any] | None:
    """Return the stored table, or None if there is none.

    Raises:
        UserError: the file is damaged.
    """
    return cells.stored(STORED, COMMAND)


def shown(statistic: Mapping[str, Any] | None) -> str:
    """Format an accuracy and its gain over the control as "97.12 ± 0.10 (+21.30)"; None gives ""."""
    if not statistic:
        return ""
    return f"{cells.shown(statistic)} ({statistic['gain']['mean']:+.2f})"


def text(result: Mapping[str, Any]) -> str:
    """Return the table as plain text."""
    control = {column: cells.shown(statistic) for column, statistic in result["control"].items()}
    few = f"{result['labels']} labels"
    lines = [
        f"{'test accuracy, % (gain)':32}{few:>26}{'without soft targets':>26}{'all labels':>26}",
        f"{'control':32}{control['few']:>26}{'':26}{control['all']:>26}",
    ]
    for name, columns in result["methods"].items():
        values = [shown(columns.get(column)) for column in ("few", "alone", "all")]
        lines.append(f"{name:32}" + "".join(f"{value:>26}" for value in values))
    lines.append(
        f"{result['student']}, {result['epochs']} epochs, {result['seeds']} seeds, "
        f"{result['core_minutes']:.0f} core-minutes; teacher {result['teacher']:.2f}%"
    )
    return "\n".join(lines)
