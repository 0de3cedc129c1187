"""Sweeps: students for all combinations of some settings, over several seeds, as one run.

sweep_cells.cells(config), .groups(config)        what there is to train
sweep_groups.start(group, mnist, teacher)         the training of one group
sweep_groups.run_group(config, index, ...)        one group from start to end, for another process
Sweep                                             all groups as an experiment
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kd.config.sweep import SweepConfig
from kd.data.digits import Mnist
from kd.device import training_device
from kd.errors import UserError
from kd.experiments.base import Experiment, NetworkTeacher, Series, environment
from kd.experiments.outcomes import from_tensors, to_tensors
from kd.metrics import classification
from kd.objectives import METHODS, feature_matching
from kd.store import runs
from kd.sweeps import sweep_groups, sweep_weights
from kd.sweeps.sweep_cells import Group, cells, groups
from kd.sweeps.sweep_groups import Outcome
from kd.sweeps.sweep_weights import Weights
from kd.training.loop import Record, Training, every_epoch

#: The measures of an ended cell on the test images.
TEST = ("test_accuracy", "test_errors", "agreement", "kl")


@dataclass(frozen=True)
class SweepRecord(Record):
    """A record of one group.

    ``step`` and ``steps`` count the steps of all cells; ``epoch`` is the fraction of them that is done.
    """

    group: int = 0
    own_step: int = 0  # steps of the group's training
    outcomes: tuple[Outcome, ...] = ()  # empty until the group ends

    def row(self) -> dict[str, float]:
        """Return the record as a row; columns are named by place in the group, so that there are few."""
        row: dict[str, float] = {
            name: getattr(self, name) for name in ("step", "epoch", "seconds", "images_per_second", "group")
        }
        row |= {f"validation {name}": value for name, value in self.validation_accuracy.items()}
        row |= {
            f"validation {name}": value
            for name, value in self.fidelity.items()
            if name.startswith("agreement")
        }
        for i, outcome in enumerate(self.outcomes):
            row |= {f"{measure} {i}": value for measure, value in outcome.items()}
        return row | {"whole_validation": float(self.whole_validation)}


class Sweep(Experiment):
    """All groups of a sweep, one after another.

    It keeps the outcomes of the cells, and the weights that sweep_weights.kept() chooses.

    Raises:
        UserError: a method cannot use the teacher's hidden layers, or the run to continue does not fit.
    """

    config: SweepConfig
    reference: NetworkTeacher
    teacher: NetworkTeacher
    training: SweepTraining | None

    def __init__(self, config: SweepConfig, mnist: Mnist, teacher: NetworkTeacher):
        self.config, self.mnist = config, mnist.to(training_device())
        self.reference = self.teacher = teacher
        self.stages, self.transfer, self.settings = [], self.mnist, {}
        for method in config.values("method"):
            feature_matching.check(METHODS[method], "teacher", teacher.architecture)
        self._before: list[Outcome] = []
        self._weights: Weights = {}
        if config.continues:
            self._before, self._weights = _finished(config, self.mnist, teacher)

    def _training(self) -> SweepTraining:
        return SweepTraining(self.config, self.mnist, self.teacher, self._before, self._weights)

    @property
    def tensors(self) -> Mapping[str, Weights]:
        return {sweep_weights.FILE: self.training.weights} if self.training else {}

    def series(self, record: Record) -> list[Series]:
        """Return the measures of the cells of a record's group, with their settings."""
        assert isinstance(record, SweepRecord)
        found = []
        for i, cell in enumerate(groups(self.config)[record.group].cells):
            values = {}
            if str(i) in record.validation_accuracy:
                values["accuracy/validation"] = record.validation_accuracy[str(i)]
            if f"agreement {i}" in record.fidelity:
                values["fidelity/agreement"] = record.fidelity[f"agreement {i}"]
            if record.outcomes:
                outcome = record.outcomes[i]
                values |= {f"test/{name}": outcome[name] for name in TEST if name in outcome}
            found.append(
                Series(f"cell {cell.index}", record.own_step, values, cell.settings, bool(record.outcomes))
            )
        return found

    def measures(self, last: Record | None) -> dict[str, Any]:
        """Return the outcomes of all cells that have ended, and the teacher's test scores."""
        if self.training is None:
            self.training = self._training()
        test = self.mnist.test
        logits = self.reference.logits(test)
        self.reference.keep()
        return {
            "seconds": last.seconds if last else 0.0,
            "source": self.mnist.source,
            "data": self.mnist.digest,
            "teacher": self.reference.digest,
            "train_images": len(self.mnist.train),
            "test_images": len(self.mnist.test),
            "taught": classification.scores(logits, test.labels, logits),
            **environment(test),
            "models": {},
            "cells": described(self.config, self.training.outcomes),
        }


class SweepTraining:
    """The trainings of all groups, driven like one kd.training.loop.Training.

    Args:
        config: the sweep.
        mnist: the data.
        teacher: the teacher of all students.
        before: outcomes of cells that were trained earlier; their groups are left out.
        weights: the weights that were kept of those cells.
    """

    trained: Mapping[str, nn.Module] = {}

    def __init__(
        self,
        config: SweepConfig,
        mnist: Mnist,
        teacher: Any,
        before: Sequence[Outcome] = (),
        weights: Mapping[str, Tensor] | None = None,
    ):
        self.settings: dict[str, float] = {}
        self.groups = groups(config)
        self.outcomes: dict[int, Outcome] = {int(outcome["cell"]): outcome for outcome in before}  # by cell
        self.weights: Weights = dict(weights or {})
        self._kept = sweep_weights.kept(cells(config))
        self._mnist, self._teacher = mnist, teacher
        self._cell_steps = config.epochs * math.ceil(len(mnist.train) / config.batch_size)
        self.steps = self._cell_steps * config.count
        self.seconds = sum(outcome["seconds"] for outcome in before)
        self._current: tuple[Group, Training] | None = None
        self._unreported = [
            group for group in self.groups if all(cell.index in self.outcomes for cell in group.cells)
        ]

    @property
    def pending(self) -> list[Group]:
        """Return the groups with a cell that has no outcome yet."""
        return [
            group for group in self.groups if any(cell.index not in self.outcomes for cell in group.cells)
        ]

    @property
    def step(self) -> int:
        """Return the optimizer steps done, counted for each cell."""
        under_way = 0
        if self._current:
            group, training = self._current
            under_way = training.step * len(group.cells)
        return self._cell_steps * len(self.outcomes) + under_way

    def keep(self, outcomes: Sequence[Outcome], weights: Mapping[str, Tensor] | None = None) -> None:
        """Store the outcomes of cells, and the weights that are kept of them."""
        self.weights |= weights or {}
        self.outcomes |= {int(outcome["cell"]): outcome for outcome in outcomes}

    def records(self, due: Callable[[int], bool] = every_epoch) -> Generator[SweepRecord, None, None]:
        """Train from the current state to the end; report first what was trained earlier.

        No setting can change during a sweep.
        """
        yield from self._report_earlier()
        for group in self.pending:
            if self._current is None or self._current[0].index != group.index:
                self._current = group, sweep_groups.start(group, self._mnist, self._teacher)
            training, before = self._current[1], self.seconds
            for record in training.records(due):
                outcomes: list[Outcome] = []
                if record.step == record.steps:
                    outcomes = sweep_groups.outcomes(group, training, self._mnist, self._teacher)
                    self.keep(outcomes, sweep_weights.of(group.cells, training, self._kept))
                    self.seconds, self._current = before + training.seconds, None
                yield self._sweep_record(record, group, outcomes, before)

    def _report_earlier(self) -> Generator[SweepRecord, None, None]:
        """Yield a record for each group that was trained earlier, once."""
        while self._unreported:
            group = self._unreported.pop(0)
            yield SweepRecord(
                step=self.step,
                steps=self.steps,
                epoch=self.step / self.steps,
                seconds=self.seconds,
                images_per_second=0.0,
                losses={},
                train_accuracy={},
                validation_accuracy={},
                whole_validation=True,
                group=group.index,
                own_step=self._cell_steps,
                outcomes=tuple(self.outcomes[cell.index] for cell in group.cells),
            )

    def _sweep_record(
        self, record: Record, group: Group, outcomes: Sequence[Outcome], before: float
    ) -> SweepRecord:
        """Return the record of a group as a record of the sweep."""
        changes = {
            "step": self.step,
            "steps": self.steps,
            "epoch": self.step / self.steps,
            "seconds": before + record.seconds,
            "images_per_second": record.images_per_second * len(group.cells),
        }
        return SweepRecord(
            **vars(record) | changes, group=group.index, own_step=record.step, outcomes=tuple(outcomes)
        )

    def state(self) -> dict[str, Tensor]:
        """Return all that is needed to resume, as tensors by name."""
        state = to_tensors("outcome", list(self.outcomes.values()))
        state |= {f"cell.{name}": value for name, value in self.weights.items()}
        if self._current:
            group, training = self._current
            state |= training.state() | {"group": torch.tensor(group.index)}
        return state | {"seconds.before": torch.tensor(self.seconds, dtype=torch.float64)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Restore a state that state() returned.

        Raises:
            UserError: it is the state of another training.
        """
        self.outcomes = {}
        self.weights = {
            key.removeprefix("cell."): value for key, value in state.items() if key.startswith("cell.")
        }
        self.keep(from_tensors("outcome", state))
        self.seconds = float(state["seconds.before"])
        self._current, self._unreported = None, []
        if "group" in state:
            group = self.groups[int(state["group"])]
            training = sweep_groups.start(group, self._mnist, self._teacher)
            training.restore(state)
            self._current = group, training


def _finished(config: SweepConfig, mnist: Mnist, teacher: NetworkTeacher) -> tuple[list[Outcome], Weights]:
    """Return the outcomes of the stopped run that ``config`` continues, and the weights that it kept.

    Raises:
        UserError: there is no such run, or it has other settings, other data or another teacher.
    """
    run = runs.load(config.continues)
    if not isinstance(run.config, SweepConfig) or run.config.replace(continues="") != config.replace(
        continues=""
    ):
        raise UserError(
            f"{run.name} has other settings than this sweep and cannot be continued with them. "
            "Start a new sweep."
        )
    if (run.measures.get("data"), run.measures.get("teacher")) != (mnist.digest, teacher.digest):
        raise UserError(
            f"{run.name} was made with other data or another teacher and cannot be continued. "
            "Start a new sweep."
        )
    outcomes = [
        {key: value for key, value in cell.items() if isinstance(value, (int, float)) and key in _NUMBERS}
        for cell in run.measures["cells"]
    ]
    return outcomes, sweep_weights.read(run)


# -- reading a run --------------------------------------------------------------------------

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
    config: SweepConfig, rows: Sequence[Mapping[str, float]]
) -> tuple[list[dict[str, Any]], dict[int, dict[str, float | None]]]:
    """Read the rows of a run.

    Returns:
        The cells that have ended, as described() returns them; and, by cell index, the latest
        measures of the cells in training.
    """
    outcomes: dict[int, Outcome] = {}
    parts = groups(config)
    for row in rows:
        if "seconds 0" not in row:
            continue
        for i in range(len(parts[int(row["group"])].cells)):
            outcome = {name: row[f"{name} {i}"] for name in _NUMBERS if f"{name} {i}" in row}
            outcomes[int(outcome["cell"])] = outcome
    live: dict[int, dict[str, float | None]] = {}
    if rows and "seconds 0" not in rows[-1]:
        for i, cell in enumerate(parts[int(rows[-1]["group"])].cells):
            live[cell.index] = {
                "validation_accuracy": rows[-1][f"validation {i}"],
                "validation_agreement": rows[-1].get(f"validation agreement {i}"),
            }
    return described(config, outcomes), live


def described(config: SweepConfig, outcomes: Mapping[int, Outcome]) -> list[dict[str, Any]]:
    """Return settings and outcome of all cells that have ended, in order and ready for JSON."""
    integers = ("cell", "test_errors", "diverged")
    return [
        cell.settings
        | {key: int(value) if key in integers else value for key, value in outcomes[cell.index].items()}
        for cell in cells(config)
        if cell.index in outcomes
    ]
