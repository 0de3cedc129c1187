"""All methods on one student, each beside its control, over several seeds.

The student has convolutions, since one method compares feature maps. Settings are the
defaults throughout. With all labels the gain of any method is small; with 100 labels,
and no label for the other images, it shows what each method learns from the teacher.
Methods that compare hidden layers are also tried alone, without soft targets.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kd import paths
from kd.config.distil import DistilConfig
from kd.data import digits
from kd.data.task import MNIST
from kd.device import training_device
from kd.experiments.base import Distillation
from kd.objectives import METHODS
from kd.tables import cells
from kd.teachers import cached, catalogue

SEEDS = 5
EPOCHS = 3
STUDENT = "cnn-tiny"
FEW = 100
BASE = "hinton"  # the method whose rows have the control
STORED = paths.MEASURED / "methods.json"
COMMAND = "python -m kd methods --json > kd/measured/methods.json"


def rows(epochs: int = EPOCHS) -> dict[str, DistilConfig]:
    """What is trained, by the row's name."""
    plain = DistilConfig(student=STUDENT, epochs=epochs)
    found = {}
    for name, method in METHODS.items():
        found[f"{name}-{FEW}"] = plain.replace(method=name, labels=FEW)
        found[f"{name}-all"] = plain.replace(method=name)
        if method.looks:
            found[f"{name}-alone-{FEW}"] = plain.replace(method=name, labels=FEW, soft_weight=0.0)
    return found


def run(
    seeds: int = SEEDS,
    epochs: int = EPOCHS,
    progress: cells.Progress = lambda share: None,
    workers: int | None = None,
) -> dict[str, Any]:
    """Computes all cells that are not kept yet, several at once, and returns the table.

    Raises:
        UserError: the full MNIST is not there.
    """
    cells.full_mnist()
    # With few labels every batch has a second one of labelled images. Row by row, for what _given() keeps.
    cost = {
        (name, seed): (1.8 if config.labels else 1.0) * (2 if config.method == BASE else 1)
        for name, config in rows(epochs).items()
        for seed in range(seeds)
    }
    work = functools.partial(run_cell, epochs)
    return table(cells.compute(cost, lambda cell: cell_path(epochs, *cell), work, progress, workers=workers))


def cell_path(epochs: int, row: str, seed: int) -> Path:
    return cells.path("methods", (row, seed), [rows(epochs)[row]])


def run_cell(
    epochs: int, row: str, seed: int, progress: cells.Progress = lambda share: None
) -> dict[str, Any]:
    """Trains a row with one seed, or goes on where it was stopped, and keeps what came out on the test set."""
    path, config = cell_path(epochs, row, seed), rows(epochs)[row].replace(seed=seed)
    mnist, cnn = _given()
    experiment = Distillation(config, mnist, cnn)
    if config.method != BASE:
        # One control serves all methods: its weights, batches and labels would be the same to the bit.
        stage = experiment.stages[0]
        experiment.stages = [lambda earlier: (stage(earlier)[0][:1], experiment.teacher)]
    return cells.finish(path, (row, seed), experiment, progress)


@functools.cache
def _given() -> tuple[digits.Mnist, cached.CachedTeacher]:
    """Data and teacher, once a process: what the teacher's hidden layers say is kept from cell to cell."""
    return cells.full_mnist(), catalogue.load(MNIST.teacher, training_device())


def table(outcomes: list[dict[str, Any]]) -> dict[str, Any]:
    """Test accuracies in percent, mean and sd over the seeds, and the gain over the control of the same seed."""
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


def accuracies(same: list[dict[str, Any]], who: str) -> dict[int, float]:
    """Seed -> test accuracy in percent."""
    return {cell["seed"]: 100 * cell["models"][who]["test_accuracy"] for cell in same}


def _gain(same: list[dict[str, Any]], control: Mapping[int, float]) -> dict[str, Any]:
    student = accuracies(same, "student")
    gains = [value - control[seed] for seed, value in student.items()]
    agreement = [100 * cell["models"]["student"]["agreement"] for cell in same]
    values = list(student.values())
    return {
        "values": values,
        **cells.spread(values),
        "gain": cells.spread(gains),
        "agreement": cells.spread(agreement),
    }


def load() -> dict[str, Any] | None:
    """The table that was measured and stored, or None where there is none yet.

    Raises:
        UserError: the file is damaged.
    """
    return cells.stored(STORED, COMMAND)


def shown(found: Mapping[str, Any] | None) -> str:
    """ "97.12 ± 0.10 (+21.30)": accuracy in percent, and the gain over the control."""
    return f"{cells.shown(found)} ({found['gain']['mean']:+.2f})" if found else ""


def text(result: Mapping[str, Any]) -> str:
    """The table to read in a terminal."""
    control = {column: cells.shown(of) for column, of in result["control"].items()}
    lines = [
        f"{'% right on the test set (gain)':32}{str(result['labels']) + ' labels':>26}{'without soft targets':>26}{'all labels':>26}",
        f"{'control':32}{control['few']:>26}{'':26}{control['all']:>26}",
    ]
    for name, of in result["methods"].items():
        lines.append(
            f"{name:32}" + "".join(f"{shown(of.get(column)):>26}" for column in ("few", "alone", "all"))
        )
    lines.append(
        f"{result['student']}, {result['epochs']} epochs, {result['seeds']} seeds, {result['core_minutes']:.0f} core-minutes; "
        f"the teacher has {result['teacher']:.2f}%"
    )
    return "\n".join(lines)
