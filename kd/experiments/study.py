"""Studies: many small trainings one after another, each a point of a chart.

A study is an experiment like any other: a generator of records that the job manager and the command
line drive, pause and stop. The training in progress is a moving point, which stays when it has ended.
To add a study, add one entry to STUDIES.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import statistics
from collections.abc import Callable, Generator, Mapping, Sequence
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
from kd.experiments.base import Experiment, NetworkTeacher
from kd.experiments.distil import Distillation
from kd.experiments.outcomes import from_tensors, to_tensors
from kd.models import registry
from kd.objectives import Outputs, labels_only, soft_loss
from kd.randomness import generator
from kd.training.learner import Learner
from kd.training.loop import Plan, Record, Training, accuracy, every_epoch


@dataclass(frozen=True)
class StudyRecord(Record):
    """A record of one training of a study; ``step``, ``epoch`` and ``seconds`` are the whole study's."""

    value: float = 0.0  # of the setting that the study varies
    seed: int = 0
    test_accuracy: Mapping[str, float] = field(default_factory=dict)  # by learner; empty until the end

    def row(self) -> dict[str, float]:
        """Return the record as a row of metrics."""
        row = super().row() | {
            "value": self.value,
            "seed": float(self.seed),
            # Marked like the end of an epoch, so that charts never leave it out.
            "whole_validation": float(bool(self.test_accuracy)),
        }
        return row | {f"test {name}": value for name, value in self.test_accuracy.items()}


class StudyCell(NamedTuple):
    """One training of a study. All of them have the same number of steps per epoch."""

    value: float
    seed: int
    epochs: int
    start: Callable[[], Training]


# -- how many labels? ----------------------------------------------------------------

#: Numbers of labels, the most informative first: 10 is one per class, 55,000 are all there are.
BUDGETS = (100, 1_000, 10, 10_000, 55_000, 30, 300, 3_000)
NO_LABEL = 0.0  # the value of the student's point, which holds for every budget
#: Learner -> its augmentation. Validation accuracy of mlp-128 with 100 labels, over two seeds: 76%
#: without augmentation, 78% and 88% with these. More steps or another learning rate changed none of
#: them by a point.
CONTROLS = {"control": "jitter", "augmented control": "affine"}
#: Images per training, repeated ones included: with up to 1,000 labels more do not help.
FEW, MANY = 110_000, 330_000


def label_budget(config: StudyConfig, mnist: Mnist, teacher: NetworkTeacher) -> list[StudyCell]:
    """Return the trainings of the label-budget study.

    For each seed a student learns from soft targets on unlabelled images; then, for each budget,
    controls learn from its labels alone.
    """
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
        cells.append(StudyCell(NO_LABEL, seed, many, functools.partial(student, seed)))
        for name in CONTROLS:
            for budget in budgets:
                epochs = few if budget <= 1_000 else many
                start = functools.partial(control, name, seed, budget, epochs)
                cells.append(StudyCell(budget, seed, epochs, start))
    return cells


def _soft_alone(
    student: Outputs, teacher: Outputs | None, labels: Tensor, settings: Mapping[str, float]
) -> dict[str, Tensor]:
    assert teacher is not None, "this objective has no other target"
    return {"soft": soft_loss(student.logits, teacher.logits, settings["temperature"])}


def _new(config: StudyConfig, seed: int) -> nn.Module:
    return registry.build(config.student, seed).to(training_device())


def _plan(epochs: int, seed: int, augmentation: str = "none") -> Plan:
    return Plan(epochs, batch_size=128, learning_rate=4e-3, seed=seed, augmentation=augmentation)


def labelled(digits: Digits, count: int, seed: int) -> Digits:
    """Return ``count`` of the digits, the classes as balanced as possible."""
    chosen = transfer_set.with_labels(digits, count, generator(seed, "labels"))
    return chosen.take(chosen.labels != UNLABELLED)


def repeated(digits: Digits, count: int) -> Digits:
    """Return the digits repeated to ``count`` images."""
    return digits.take(torch.arange(count, device=digits.labels.device) % len(digits))


# -- wrong labels -----------------------------------------------------------------------

NOISE_IMAGES = 220_000  # images per training
NOISE = (0.0, 0.6, 0.3, 0.45, 0.15)  # shares of wrong labels, the most informative first


def label_noise(config: StudyConfig, mnist: Mnist, teacher: NetworkTeacher) -> list[StudyCell]:
    """Return the trainings of the label-noise study: student and control by seed and noise."""
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
        learners, stage_teacher = run.stages[0]({})
        return Training(learners, run.transfer, run.plan, run.settings, stage_teacher)

    return [
        StudyCell(share, seed, epochs, functools.partial(both, seed, share))
        for seed in range(config.seeds)
        for share in NOISE
    ]


#: Name -> the trainings of a study, in order.
STUDIES: dict[str, Callable[[StudyConfig, Mnist, NetworkTeacher], list[StudyCell]]] = {
    "labels": label_budget,
    "noise": label_noise,
}


# -- the experiment ------------------------------------------------------------------


class Study(Experiment):
    """All trainings of a study, one after another. Only their points are kept."""

    config: StudyConfig
    reference: NetworkTeacher
    teacher: NetworkTeacher
    training: StudyTraining | None

    def __init__(self, config: StudyConfig, mnist: Mnist, teacher: NetworkTeacher):
        self.config, self.mnist = config, mnist.to(training_device())
        self.reference = self.teacher = teacher
        self.stages, self.transfer, self.settings = [], self.mnist, {}

    def _training(self) -> StudyTraining:
        return StudyTraining(STUDIES[self.config.study](self.config, self.mnist, self.teacher), self.mnist)

    def measures(self, last: Record | None) -> dict[str, Any]:
        """Return the curves of the study."""
        if self.training is None:
            self.training = self._training()
        return {
            "seconds": last.seconds if last else 0.0,
            "source": self.mnist.source,
            "data": self.mnist.digest,
            "test_images": len(self.mnist.test),
            "models": {},
            "curves": curves(self.training.points),
        }


class StudyTraining:
    """All trainings of a study, driven like one kd.training.loop.Training."""

    trained: Mapping[str, nn.Module] = {}

    def __init__(self, cells: list[StudyCell], mnist: Mnist):
        self.settings: dict[str, float] = {}
        self.points: list[dict[str, float]] = []  # one per training that has ended
        self._cells, self._mnist = cells, mnist
        self._current = cells[0].start()
        self.steps = self._epochs(len(cells)) * self._current.steps_per_epoch

    def _epochs(self, count: int) -> int:
        return sum(cell.epochs for cell in self._cells[:count])

    @property
    def ended(self) -> bool:
        """Whether all trainings have ended."""
        return len(self.points) == len(self._cells)

    @property
    def step(self) -> int:
        """Optimizer steps done, in all trainings."""
        before = self._epochs(len(self.points)) * self._current.steps_per_epoch
        return before if self.ended else before + self._current.step

    @property
    def seconds(self) -> float:
        """Training time so far, in seconds."""
        return sum(point["seconds"] for point in self.points) + (0 if self.ended else self._current.seconds)

    def records(self, due: Callable[[int], bool] = every_epoch) -> Generator[StudyRecord, None, None]:
        """Train from the current state to the end. No setting can change during a study."""
        while not self.ended:
            cell, training = self._cells[len(self.points)], self._current
            for record in training.records(due):
                ended = record.step == record.steps
                test: dict[str, float] = {}
                if ended:
                    for learner in training.learners:
                        test[learner.name] = accuracy(learner.model, self._mnist.test)
                changes = {
                    "step": self.step,
                    "steps": self.steps,
                    "epoch": self.step / self.steps,
                    "seconds": self.seconds,
                    "value": cell.value,
                    "seed": cell.seed,
                    "test_accuracy": test,
                }
                point = StudyRecord(**vars(record) | changes)
                if ended:
                    self._keep(cell, test, training.seconds)
                yield point

    def _keep(self, cell: StudyCell, test: Mapping[str, float], seconds: float) -> None:
        """Store the point of a training that has ended, and start the next one."""
        point = {"value": cell.value, "seed": float(cell.seed), "seconds": seconds}
        self.points.append(point | {f"test {name}": value for name, value in test.items()})
        if not self.ended:
            self._current = self._cells[len(self.points)].start()

    def state(self) -> dict[str, Tensor]:
        """Return all that is needed to resume, as tensors by name."""
        return self._current.state() | to_tensors("point", self.points)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Restore a state that state() returned.

        Raises:
            UserError: it is the state of another training.
        """
        self.points = from_tensors("point", state)
        if not self.ended:
            self._current = self._cells[len(self.points)].start()
            self._current.restore(state)


#: Study -> the stored result of the command line, which is shown until the visitor starts one.
STORED = {"labels": paths.MEASURED / "label_budget.json"}


def stored(study: str) -> dict[str, Any] | None:
    """Return a study's stored command and curves; None if there are none or they are damaged."""
    try:
        return json.loads(STORED[study].read_text())
    except (KeyError, OSError, ValueError):
        return None


def curves(rows: Sequence[Mapping[str, float]]) -> dict[str, list[dict[str, Any]]]:
    """Return the test accuracy by learner and value.

    Args:
        rows: of records; trainings that have not ended are left out.

    Returns:
        Learner -> one point per value, in order: value, mean, sd (0 for one seed) and all accuracies.
    """
    accuracies: dict[str, dict[float, list[float]]] = {}
    for row in rows:
        for key in row:
            if key.startswith("test "):
                by_value = accuracies.setdefault(key.removeprefix("test "), {})
                by_value.setdefault(row["value"], []).append(row[key])
    return {
        learner: [
            {
                "value": value,
                "mean": statistics.mean(values),
                "sd": statistics.stdev(values) if len(values) > 1 else 0.0,
                "all": values,
            }
            for value, values in sorted(by_value.items())
        ]
        for learner, by_value in accuracies.items()
    }
