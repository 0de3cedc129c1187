"""Grids: students for all combinations of temperature, soft weight and other settings, over several seeds, as one run.

A *cell* is one student, or the control of those with the same network, labels and seed. Cells that see the same batches
train in *groups*, as one batched computation. A cell comes to what `python -m kd distil` with its settings comes to, within
rounding: the seed fixes initial weights and batches. So seeds cannot share a group: they differ in their batches too, and
the deviation over the seeds is that of all that chance decides.

    cells(config), groups(config)                    what there is to train
    start(group, mnist, teacher)                     a training of one group, to be driven, stopped and restored
    run_group(config, index, mnist, teacher)         one group from start to end, for another process
    Grid                                             all of them as an experiment
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kd.config.base import Config
from kd.config.distil import DistilConfig
from kd.config.grid import AXES, GridConfig
from kd.data.digits import Digits, Mnist
from kd.device import training_device
from kd.errors import UserError
from kd.experiments.base import Distillation, Experiment, on
from kd.metrics import classification, size
from kd.models import inference, registry
from kd.objectives import METHODS, feature_matching, labels_only
from kd.store import runs
from kd.sweeps import grid_weights
from kd.sweeps.grid_weights import Weights
from kd.sweeps.together import Together
from kd.teachers.averaged import MeanTeacher
from kd.teachers.cached import CachedTeacher
from kd.training import forward_backward
from kd.training.learner import Learner
from kd.training.loop import Record, Training, every_epoch

#: Weights, at most, that a group has, of all its cells: with their gradients and the optimizer's moments they should stay near the cache.
GROUP_WEIGHTS = 1_000_000

#: What a cell came to: ``cell``, its index; ``validation_accuracy``, ``validation_agreement``, and on the test images, as measure.scores()
#: has them, ``test_accuracy``, ``test_errors``, ``agreement`` (with the teacher) and ``kl``; ``seconds``, its share of the group's; ``diverged``, 1 where its weights are no
#: numbers, and then none of the others but ``cell`` and ``seconds``.
Outcome = dict[str, float]


@dataclass(frozen=True)
class Cell:
    """One training. ``config`` is what `kd distil` would train it with; of a control, with soft weight 0."""

    index: int
    config: DistilConfig
    control: bool

    @property
    def settings(self) -> dict[str, Any]:
        """Its values on the axes that it has, and the seed. A control has no method."""
        read = {name: getattr(self.config, name) for name in AXES if self.config.reads(name)}
        if self.control:
            read = {"student": read["student"], "labels": read["labels"], "soft_weight": 0.0}
        return read | {"seed": self.config.seed, "control": self.control}


@dataclass(frozen=True)
class Group:
    """Cells that train together."""

    index: int
    cells: tuple[Cell, ...]


@functools.lru_cache(maxsize=16)  # a page asks with each tick, and the largest grids take a while to check
def cells(config: GridConfig) -> tuple[Cell, ...]:
    """All cells, controls first within those that they are the control of; the first seed's before the second's."""
    common = {spec.name: getattr(config, spec.name) for spec in dataclasses.fields(Config)} | {
        "teacher": config.teacher
    }
    found: list[Cell] = []
    for seed, student, labels in itertools.product(
        range(config.seed, config.seed + config.seeds), config.values("student"), config.values("labels")
    ):
        about = common | {"student": student, "labels": labels, "seed": seed}
        found.append(Cell(len(found), DistilConfig(**about, soft_weight=0.0), True))
        for settings in taught(config):
            found.append(Cell(len(found), DistilConfig(**about, **settings), False))
    return tuple(found)


def taught(config: GridConfig) -> list[dict[str, Any]]:
    """Method, temperature and soft weight of all students that are not controls; only what the method reads."""
    found: dict[tuple, dict[str, Any]] = {}
    for method, temperature, soft_weight in itertools.product(
        config.values("method"), config.values("temperature"), config.values("soft_weight")
    ):
        read = {
            name: value
            for name, value in [("temperature", temperature), ("soft_weight", soft_weight)]
            if name in METHODS[method].settings
        }
        if read.get("soft_weight") != 0:
            found[(method, *read.items())] = {"method": method} | read
    return list(found.values())


@functools.lru_cache(maxsize=16)
def groups(config: GridConfig) -> tuple[Group, ...]:
    """The cells in groups. Those that cannot be batched, since they are no MLPs or look at hidden layers, are groups of one."""
    parts: list[list[Cell]] = []
    for _, same in itertools.groupby(
        cells(config), lambda cell: (cell.config.seed, cell.config.student, cell.config.labels)
    ):
        together, alone = [], []
        for cell in same:
            (together if _batchable(cell) else alone).append(cell)
        if together:
            most = max(1, GROUP_WEIGHTS // size.network_size(together[0].config.student).parameters)
            even = math.ceil(len(together) / math.ceil(len(together) / most))
            parts += [together[i : i + even] for i in range(0, len(together), even)]
        parts += [[cell] for cell in alone]
    return tuple(Group(i, tuple(part)) for i, part in enumerate(parts))


def _batchable(cell: Cell) -> bool:
    looks = not cell.control and METHODS[cell.config.method].looks
    return not looks and _multilayer_perceptron(cell.config.student)


@functools.lru_cache(maxsize=256)
def _multilayer_perceptron(student: str) -> bool:
    return forward_backward.alike([registry.skeleton(student)])


# -- one group ------------------------------------------------------------------------------


def start(group: Group, mnist: Mnist, teacher: Any) -> Training:
    """The training of a group, whose learners are called by their place in it: "0", "1", ...

    Args:
        teacher: answers as train.Teacher; with an ``architecture`` too where a method looks at hidden layers.

    Raises:
        UserError: the settings do not fit the data.
    """
    first = group.cells[0]
    run = Distillation(first.config, mnist, teacher)
    if _batchable(first):
        learners = [
            Learner(
                str(i),
                registry.build(cell.config.student, cell.config.seed).to(training_device()),
                _objective(cell),
                settings=_settings(cell),
            )
            for i, cell in enumerate(group.cells)
        ]
        return Together(learners, run.transfer, run.plan, teacher)
    (student, control), _ = run.stages[0]({})
    learner = dataclasses.replace(control if first.control else student, name="0")
    return Training([learner], run.transfer, run.plan, run.settings, teacher)


def _objective(cell: Cell) -> Any:
    return labels_only if cell.control else METHODS[cell.config.method].objective


def _settings(cell: Cell) -> dict[str, float]:
    return {name: getattr(cell.config, name) for name in METHODS[cell.config.method].settings}


def outcomes(group: Group, training: Training, mnist: Mnist, teacher: Any) -> list[Outcome]:
    """What the cells of a group came to when its training ended. The test set is read here and nowhere else.

    It is read by each network alone, as it is stored and loaded: together their sums may round otherwise, and an image that is
    a toss-up would be told differently of the run that a cell is opened as.
    """
    guesses, taught, inputs, found = (
        _said(training, mnist.validation).argmax(2),
        teacher.logits(mnist.test),
        mnist.test.inputs(),
        [],
    )
    errors, agreement = (
        (guesses != mnist.validation.labels).sum(1).tolist(),
        (guesses == teacher.logits(mnist.validation).argmax(1)).double().mean(1).tolist(),
    )
    for i, (cell, learner) in enumerate(zip(group.cells, training.learners)):
        about = {"cell": cell.index, "seconds": training.seconds / len(group.cells)}
        if not grid_weights.sound(learner.model):
            found.append(about | {"diverged": 1})
            continue
        said = inference.logits_in_chunks(
            registry.as_stored(learner.model, cell.config.student).to(inputs.device), inputs, 512
        )
        judged = {
            "validation_accuracy": 1 - errors[i] / len(mnist.validation),
            "validation_agreement": agreement[i],
        } | classification.scores(said, mnist.test.labels, taught)
        found.append(about | (judged if all(map(math.isfinite, judged.values())) else {"diverged": 1}))
    return found


def _said(training: Training, digits: Digits) -> Tensor:
    """Logits (L, N, 10) of all learners."""
    if isinstance(training, Together):
        return training.said(digits)
    return torch.stack(
        [inference.logits_in_chunks(learner.model, digits.inputs(), 512) for learner in training.learners]
    )


class Table:
    """A teacher as its logits, for those who have nothing else of it: other processes.

    Args:
        logits: "train" (60000, 10) and "test" (10000, 10), by the images' ids.
    """

    architecture = ""  # it cannot be looked into

    def __init__(self, logits: Mapping[str, Tensor]):
        self._logits = logits

    def logits(self, digits: Digits) -> Tensor:
        return self._logits[digits.file][digits.ids]


def run_group(
    config: Mapping[str, Any],
    index: int,
    mnist: Mnist,
    teacher: Any,
    note: Callable[[Record], None] = lambda record: None,
    weights: Weights | None = None,
) -> list[Outcome]:
    """One group from start to end.

    Args:
        config: GridConfig.to_dict().
        teacher: a Table, or a CachedTeacher where a method looks at hidden layers.
        note: is told the records at the ends of epochs.
        weights: those that are kept are put in here.
    """
    settings = GridConfig.from_dict(config)
    group = groups(settings)[index]
    mnist = mnist.to(training_device())
    training = start(group, mnist, teacher)
    for record in training.records():
        note(record)
    if weights is not None:
        weights |= grid_weights.of(group.cells, training, grid_weights.kept(cells(settings)))
    return outcomes(group, training, mnist, teacher)


# -- all groups -------------------------------------------------------------------------------


@dataclass(frozen=True)
class GridRecord(Record):
    """A record of one group; ``step`` and ``steps`` count those of all cells, ``epoch`` is the share of them that is done."""

    group: int = 0
    outcomes: tuple[Outcome, ...] = ()  # empty until the group ends

    def row(self) -> dict[str, float]:
        """With columns for the places in the group, so that a grid of any size has few."""
        about = {
            name: getattr(self, name) for name in ("step", "epoch", "seconds", "images_per_second", "group")
        }
        live = {f"validation {name}": value for name, value in self.validation_accuracy.items()}
        live |= {
            f"validation {name}": value
            for name, value in self.fidelity.items()
            if name.startswith("agreement")
        }
        ended = {
            f"{what} {i}": value for i, outcome in enumerate(self.outcomes) for what, value in outcome.items()
        }
        return about | live | ended | {"whole_validation": float(self.whole_validation)}


class Grid(Experiment):
    """All groups of a grid, one after another. What is kept of them are the outcomes of their cells, and weights as grid_weights.kept() has it.

    Raises:
        UserError: a method cannot look into the teacher, or the run that it continues does not fit.
    """

    config: GridConfig
    training: Groups | None

    def __init__(self, config: GridConfig, mnist: Mnist, teacher: CachedTeacher | MeanTeacher):
        self.config, self.mnist, self.reference, self.teacher = (
            config,
            mnist.to(training_device()),
            teacher,
            teacher,
        )
        self.stages, self.transfer, self.settings = [], self.mnist, {}
        for method in config.values("method"):
            feature_matching.check(METHODS[method], "teacher", teacher.architecture)
        self._before, self._weights = _finished(config, self.mnist, teacher) if config.continues else ([], {})

    def _training(self) -> Groups:
        return Groups(self.config, self.mnist, self.teacher, self._before, self._weights)

    @property
    def tensors(self) -> Mapping[str, Weights]:
        return {grid_weights.FILE: self.training.weights} if self.training else {}

    def measures(self, last: Record | None) -> dict[str, Any]:
        if self.training is None:
            self.training = self._training()
        test = self.mnist.test
        said = self.reference.logits(test)
        self.reference.keep()
        return {
            "seconds": last.seconds if last else 0.0,
            "source": self.mnist.source,
            "data": self.mnist.digest,
            "teacher": self.reference.digest,
            "train_images": len(self.mnist.train),
            "test_images": len(self.mnist.test),
            "taught": classification.scores(said, test.labels, said),
            **on(test),
            "models": {},
            "cells": described(self.config, self.training.outcomes),
        }


class Groups:
    """The trainings of all groups as if they were one: what train.Training is to other experiments.

    Args:
        before: outcomes of cells that were trained earlier; their groups are left out.
        weights: of those cells, as far as they were kept.
    """

    trained: Mapping[str, nn.Module] = {}

    def __init__(
        self,
        config: GridConfig,
        mnist: Mnist,
        teacher: Any,
        before: Sequence[Outcome] = (),
        weights: Mapping[str, Tensor] | None = None,
    ):
        self.settings: dict[str, float] = {}
        self.groups = groups(config)
        self.outcomes: dict[int, Outcome] = {int(outcome["cell"]): outcome for outcome in before}  # by cell
        self.weights: Weights = dict(weights or {})
        self._kept = grid_weights.kept(cells(config))
        self._mnist, self._teacher = mnist, teacher
        self._each = config.epochs * math.ceil(len(mnist.train) / config.batch_size)  # steps of a cell
        self.steps = self._each * config.count
        self.seconds = sum(outcome["seconds"] for outcome in before)
        self._current: tuple[Group, Training] | None = None
        self._untold = [
            group for group in self.groups if all(cell.index in self.outcomes for cell in group.cells)
        ]

    @property
    def pending(self) -> list[Group]:
        """The groups with a cell that has no outcome yet."""
        return [
            group for group in self.groups if any(cell.index not in self.outcomes for cell in group.cells)
        ]

    @property
    def step(self) -> int:
        under_way = self._current[1].step * len(self._current[0].cells) if self._current else 0
        return self._each * len(self.outcomes) + under_way

    def keep(self, found: list[Outcome], weights: Mapping[str, Tensor] | None = None) -> None:
        """Puts down what cells came to, and those of their weights that are kept."""
        self.weights |= weights or {}
        self.outcomes |= {int(outcome["cell"]): outcome for outcome in found}

    def records(self, due: Callable[[int], bool] = every_epoch) -> Generator[GridRecord, None, None]:
        """Trains, from where it stands to the end; what was trained earlier is told first. There are no settings to change."""
        yield from self._taken_over()
        for group in self.pending:
            if self._current is None or self._current[0].index != group.index:
                self._current = group, start(group, self._mnist, self._teacher)
            training, before = self._current[1], self.seconds
            for record in training.records(due):
                found = (
                    outcomes(group, training, self._mnist, self._teacher)
                    if record.step == record.steps
                    else []
                )
                if found:
                    self.keep(found, grid_weights.of(group.cells, training, self._kept))
                    self.seconds, self._current = before + training.seconds, None
                yield self._whole(record, group, found, before)

    def _taken_over(self) -> Generator[GridRecord, None, None]:
        """What was trained earlier, where this has not been told yet."""
        while self._untold:
            group = self._untold.pop(0)
            done = {
                "step": self.step,
                "steps": self.steps,
                "epoch": self.step / self.steps,
                "seconds": self.seconds,
            }
            found = tuple(self.outcomes[cell.index] for cell in group.cells)
            yield GridRecord(
                **done,
                images_per_second=0.0,
                losses={},
                train_accuracy={},
                validation_accuracy={},
                whole_validation=True,
                group=group.index,
                outcomes=found,
            )

    def _whole(self, record: Record, group: Group, found: list[Outcome], before: float) -> GridRecord:
        """``record`` of a group as one of the grid."""
        whole = {
            "step": self.step,
            "steps": self.steps,
            "epoch": self.step / self.steps,
            "seconds": before + record.seconds,
            "images_per_second": record.images_per_second * len(group.cells),
        }
        return GridRecord(**vars(record) | whole, group=group.index, outcomes=tuple(found))

    def state(self) -> dict[str, Tensor]:
        """All that going on from here needs, as tensors by name."""
        kept = list(self.outcomes.values())
        columns = dict.fromkeys(key for outcome in kept for key in outcome)
        ended = {
            f"outcome.{key}": torch.tensor(
                [outcome.get(key, math.nan) for outcome in kept], dtype=torch.float64
            )
            for key in columns
        }
        under_way = (
            self._current[1].state() | {"group": torch.tensor(self._current[0].index)}
            if self._current
            else {}
        )
        return (
            ended
            | {f"cell.{name}": value for name, value in self.weights.items()}
            | under_way
            | {"seconds.before": torch.tensor(self.seconds, dtype=torch.float64)}
        )

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Takes up what state() gave.

        Raises:
            UserError: it is the state of another training.
        """
        columns = {
            key.removeprefix("outcome."): value.tolist()
            for key, value in state.items()
            if key.startswith("outcome.")
        }
        rows = [dict(zip(columns, values)) for values in zip(*columns.values())]
        self.outcomes, self.weights = (
            {},
            {key.removeprefix("cell."): value for key, value in state.items() if key.startswith("cell.")},
        )
        self.keep([{key: value for key, value in row.items() if not math.isnan(value)} for row in rows])
        self.seconds = float(state["seconds.before"])
        self._current, self._untold = None, []
        if "group" in state:
            group = self.groups[int(state["group"])]
            self._current = group, start(group, self._mnist, self._teacher)
            self._current[1].restore(state)


def _finished(
    config: GridConfig, mnist: Mnist, teacher: CachedTeacher | MeanTeacher
) -> tuple[list[Outcome], Weights]:
    """The outcomes of the stopped run that ``config`` continues, and the weights that it kept.

    Raises:
        UserError: no such run, or one of other settings, data or another teacher.
    """
    run = runs.load(config.continues)
    if not isinstance(run.config, GridConfig) or run.config.replace(continues="") != config.replace(
        continues=""
    ):
        raise UserError(
            f"{run.name} has other settings than this sweep, so that it cannot be continued with them; start this one anew."
        )
    if (run.measures.get("data"), run.measures.get("teacher")) != (mnist.digest, teacher.digest):
        raise UserError(
            f"{run.name} was made with other data or another teacher, so that it cannot be continued; start it anew."
        )
    found = [
        {key: value for key, value in cell.items() if isinstance(value, (int, float)) and key in _NUMBERS}
        for cell in run.measures["cells"]
    ]
    return found, grid_weights.read(run)


# -- reading a run --------------------------------------------------------------------------------

_NUMBERS = (
    "cell",
    "seconds",
    "validation_accuracy",
    "validation_agreement",
    "test_accuracy",
    "test_errors",
    "agreement",
    "kl",
    "diverged",
)


def read(
    config: GridConfig, rows: Sequence[Mapping[str, float]]
) -> tuple[list[dict[str, Any]], dict[int, dict[str, float]]]:
    """From the rows of a run: the cells that have ended, as described(), and of those under way, by their index, what the last row says of them."""
    found: dict[int, Outcome] = {}
    parts = groups(config)
    for row in rows:
        for i in range(len(parts[int(row["group"])].cells) if "seconds 0" in row else 0):
            outcome = {what: row[f"{what} {i}"] for what in _NUMBERS if f"{what} {i}" in row}
            found[int(outcome["cell"])] = outcome
    live = {}
    if rows and "seconds 0" not in rows[-1]:
        for i, cell in enumerate(parts[int(rows[-1]["group"])].cells):
            live[cell.index] = {
                "validation_accuracy": rows[-1][f"validation {i}"],
                "validation_agreement": rows[-1].get(f"validation agreement {i}"),
            }
    return described(config, found), live


def described(config: GridConfig, found: Mapping[int, Outcome]) -> list[dict[str, Any]]:
    """Settings and outcome of all cells that have ended, in order, as json takes them."""
    whole = ("cell", "test_errors", "diverged")
    return [
        cell.settings
        | {key: int(value) if key in whole else value for key, value in found[cell.index].items()}
        for cell in cells(config)
        if cell.index in found
    ]
