"""Sweeps: many small trainings one after another, each a point of a chart.

A sweep is an experiment like any other: a generator of records, that the job manager
and the command line drive, pause and stop. A training under way is a record that moves;
when it ends its point stays. To add a study, add one entry to STUDIES.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import statistics
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kd import paths
from kd.config.distil import DistilConfig
from kd.config.study import StudyConfig
from kd.data import transfer_set
from kd.data.digits import UNLABELLED, Digits, Mnist
from kd.device import training_device
from kd.experiments.base import Distillation, Experiment
from kd.models import registry
from kd.objectives import Outputs, labels_only, soft_loss
from kd.randomness import generator
from kd.teachers.cached import CachedTeacher
from kd.training.learner import Learner
from kd.training.loop import Plan, Record, Training, accuracy, every_epoch


@dataclass(frozen=True)
class Point(Record):
    """A record of one training of a sweep; ``step``, ``epoch`` and ``seconds`` are the whole sweep's."""

    value: float = 0.0  # what the study varies
    seed: int = 0
    test_accuracy: Mapping[str, float] = field(
        default_factory=dict
    )  # learner -> share right; empty until the training ends

    def row(self) -> dict[str, float]:
        # Points must not be thinned out, as the ends of epochs are not.
        about = {
            "value": self.value,
            "seed": float(self.seed),
            "whole_validation": float(bool(self.test_accuracy)),
        }
        return super().row() | about | {f"test {name}": value for name, value in self.test_accuracy.items()}


class Cell(NamedTuple):
    """One training of a sweep. All of a study have as many steps an epoch."""

    value: float
    seed: int
    epochs: int
    start: Callable[[], Training]


# -- how many labels? ----------------------------------------------------------------

#: The most telling ones first: 10 labels are one a digit, 55,000 are all that there are.
BUDGETS = (100, 1_000, 10, 10_000, 55_000, 30, 300, 3_000)
NO_LABEL = 0.0  # the value of the student's point, which holds for every budget
#: Learner -> how its images are varied. Of mlp-128 with 100 labels, over two seeds, right on the validation images:
#: 76% without, 78% and 88% with these. More steps or another learning rate moved none of them by a point.
CONTROLS = {"control": "jitter", "augmented control": "affine"}
#: Images, repeated ones among them, that a training goes through: up to 1,000 labels more do not help.
FEW, MANY = 110_000, 330_000


def label_budget(config: StudyConfig, mnist: Mnist, teacher: CachedTeacher) -> list[Cell]:
    """For each seed a student from soft targets on unlabelled images, then controls for each budget from its labels alone."""
    everything = len(mnist.train)
    few, many = (round(images / everything) for images in (FEW, MANY))  # epochs
    budgets = list(dict.fromkeys(min(budget, everything) for budget in BUDGETS))

    def student(seed: int) -> Training:
        learner = Learner("student", _new(config, seed), _soft_alone)
        unlabelled = dataclasses.replace(mnist.train, labels=torch.full_like(mnist.train.labels, UNLABELLED))
        return Training(
            [learner],
            dataclasses.replace(mnist, train=unlabelled),
            _plan(many, seed),
            {"temperature": config.temperature},
            teacher,
        )

    def control(name: str, seed: int, budget: int, epochs: int) -> Training:
        learner = Learner(name, _new(config, seed), labels_only)
        images = repeated(labelled(mnist.train, budget, seed), everything)
        return Training(
            [learner], dataclasses.replace(mnist, train=images), _plan(epochs, seed, CONTROLS[name]), {}
        )

    cells = []
    for seed in range(config.seeds):
        cells.append(Cell(NO_LABEL, seed, many, functools.partial(student, seed)))
        for name in CONTROLS:
            for budget in budgets:
                epochs = few if budget <= 1_000 else many
                cells.append(
                    Cell(budget, seed, epochs, functools.partial(control, name, seed, budget, epochs))
                )
    return cells


def _soft_alone(
    student: Outputs, teacher: Outputs | None, labels: Tensor, settings: Mapping[str, float]
) -> dict[str, Tensor]:
    return {"soft": soft_loss(student.logits, teacher.logits, settings["temperature"])}


def _new(config: StudyConfig, seed: int) -> nn.Module:
    return registry.build(config.student, seed).to(training_device())


def _plan(epochs: int, seed: int, augmentation: str = "none") -> Plan:
    return Plan(epochs, batch_size=128, learning_rate=4e-3, seed=seed, augmentation=augmentation)


def labelled(digits: Digits, count: int, seed: int) -> Digits:
    """``count`` of the digits, as many of each class as can be."""
    chosen = transfer_set.with_labels(digits, count, generator(seed, "labels"))
    return chosen.take(chosen.labels != UNLABELLED)


def repeated(digits: Digits, count: int) -> Digits:
    """The same digits over and over, ``count`` in all."""
    return digits.take(torch.arange(count, device=digits.labels.device) % len(digits))


# -- wrong labels -----------------------------------------------------------------------

NOISE_IMAGES = 220_000  # that a training goes through
NOISE = (0.0, 0.6, 0.3, 0.45, 0.15)  # shares of wrong labels; the telling ones first


def label_noise(config: StudyConfig, mnist: Mnist, teacher: CachedTeacher) -> list[Cell]:
    """For each seed student and control together, with more and more wrong labels."""
    epochs = round(NOISE_IMAGES / len(mnist.train))

    def both(seed: int, share: float) -> Training:
        settings = DistilConfig(
            student=config.student,
            teacher=config.teacher,
            temperature=config.temperature,
            seed=seed,
            label_noise=share,
            epochs=epochs,
        )
        run = Distillation(settings, mnist, teacher)
        learners, taught_by = run.stages[0]({})
        return Training(learners, run.transfer, run.plan, run.settings, taught_by)

    return [
        Cell(share, seed, epochs, functools.partial(both, seed, share))
        for seed in range(config.seeds)
        for share in NOISE
    ]


#: Name -> the cells of a study, in the order of their training.
STUDIES: dict[str, Callable[[StudyConfig, Mnist, CachedTeacher], list[Cell]]] = {
    "labels": label_budget,
    "noise": label_noise,
}


# -- the sweep -----------------------------------------------------------------------


class Study(Experiment):
    """All cells of a study, one after another. Nothing but the points is kept of them."""

    training: Trainings | None

    def __init__(self, config: StudyConfig, mnist: Mnist, teacher: CachedTeacher):
        self.config, self.mnist, self.reference, self.teacher = (
            config,
            mnist.to(training_device()),
            teacher,
            teacher,
        )
        self.stages, self.transfer, self.settings = [], self.mnist, {}

    def _training(self) -> Trainings:
        return Trainings(STUDIES[self.config.study](self.config, self.mnist, self.teacher), self.mnist)

    def measures(self, last: Record | None) -> dict[str, Any]:
        return {
            "seconds": last.seconds if last else 0.0,
            "source": self.mnist.source,
            "data": self.mnist.digest,
            "test_images": len(self.mnist.test),
            "models": {},
            "curves": curves(self.training.points),
        }


class Trainings:
    """The trainings of all cells as if they were one: what train.Training is to other experiments."""

    trained: Mapping[str, nn.Module] = {}

    def __init__(self, cells: list[Cell], mnist: Mnist):
        self.settings: dict[str, float] = {}
        self.points: list[dict[str, float]] = []  # one for each cell that has ended
        self._cells, self._mnist = cells, mnist
        self._current = cells[0].start()
        self.steps = self._epochs(len(cells)) * self._current.steps_per_epoch

    def _epochs(self, count: int) -> int:
        return sum(cell.epochs for cell in self._cells[:count])

    @property
    def ended(self) -> bool:
        return len(self.points) == len(self._cells)

    @property
    def step(self) -> int:
        return self._epochs(len(self.points)) * self._current.steps_per_epoch + (
            0 if self.ended else self._current.step
        )

    @property
    def seconds(self) -> float:
        return sum(point["seconds"] for point in self.points) + (0 if self.ended else self._current.seconds)

    def records(self, due: Callable[[int], bool] = every_epoch) -> Generator[Record, None, None]:
        """Trains, from where it stands to the end. There are no settings to change."""
        while not self.ended:
            cell, training = self._cells[len(self.points)], self._current
            for record in training.records(due):
                ended = record.step == record.steps
                test = (
                    {learner.name: accuracy(learner.model, self._mnist.test) for learner in training.learners}
                    if ended
                    else {}
                )
                whole = {
                    "step": self.step,
                    "steps": self.steps,
                    "epoch": self.step / self.steps,
                    "seconds": self.seconds,
                }
                point = Point(**vars(record) | whole, value=cell.value, seed=cell.seed, test_accuracy=test)
                if ended:
                    self._keep(cell, test, training.seconds)
                yield point

    def _keep(self, cell: Cell, test: Mapping[str, float], seconds: float) -> None:
        """Puts down a point and makes the next training ready."""
        about = {"value": cell.value, "seed": float(cell.seed), "seconds": seconds}
        self.points.append(about | {f"test {name}": value for name, value in test.items()})
        if not self.ended:
            self._current = self._cells[len(self.points)].start()

    def state(self) -> dict[str, Tensor]:
        """All that going on from here needs, as tensors by name."""
        columns = dict.fromkeys(key for point in self.points for key in point)
        points = {
            f"point.{key}": torch.tensor(
                [point.get(key, math.nan) for point in self.points], dtype=torch.float64
            )
            for key in columns
        }
        return self._current.state() | points

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Takes up what state() gave.

        Raises:
            UserError: it is the state of another training.
        """
        columns = {
            key.removeprefix("point."): value.tolist()
            for key, value in state.items()
            if key.startswith("point.")
        }
        rows = [dict(zip(columns, values)) for values in zip(*columns.values())]
        self.points = [{key: value for key, value in row.items() if not math.isnan(value)} for row in rows]
        if not self.ended:
            self._current = self._cells[len(self.points)].start()
            self._current.restore(state)


#: What the command line measured of a study and is shown until somebody starts one.
STORED = {"labels": paths.MEASURED / "label_budget.json"}


def stored(study: str) -> dict[str, Any] | None:
    """The command and its curves; None where nothing is stored or it is damaged, since it is only an example."""
    try:
        return json.loads(STORED[study].read_text())
    except (KeyError, OSError, ValueError):
        return None


def curves(rows: list[Mapping[str, float]]) -> dict[str, list[dict[str, Any]]]:
    """Learner -> for each value, in order, mean, sd (0 where there is one seed) and all test accuracies.

    Args:
        rows: of records; those of trainings that have not ended are left out.
    """
    found: dict[str, dict[float, list[float]]] = {}
    for row in rows:
        for key in row:
            if key.startswith("test "):
                found.setdefault(key.removeprefix("test "), {}).setdefault(row["value"], []).append(row[key])
    return {
        who: [
            {
                "value": value,
                "mean": statistics.mean(shares),
                "sd": statistics.stdev(shares) if len(shares) > 1 else 0.0,
                "all": shares,
            }
            for value, shares in sorted(by_value.items())
        ]
        for who, by_value in found.items()
    }
