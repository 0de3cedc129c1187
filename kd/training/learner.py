"""A learner: a model in training, what it is taught by, and one step of its training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from kd.data.digits import UNLABELLED
from kd.models.inference import Outputs
from kd.objectives import Objective
from kd.objectives.feature_matching import Connection
from kd.objectives.gradients import wanted
from kd.training.distributed import Ranks
from kd.training.forward_backward import Key, passes
from kd.training.optimizers import OPTIMIZERS

TOGETHER = 64  # steps whose losses and answers are summed at once


@dataclass
class Learner:
    """A model in training, and what it is taught by."""

    name: str  # "student", "control" or "teacher"
    model: nn.Module
    objective: Objective
    connection: Connection | None = None  # with the teacher's hidden layers; its projection is trained too
    peer: str = ""  # the learner whose answers it learns from instead of the teacher's
    settings: Mapping[str, float] | None = None  # that its objective reads instead of the training's


class Step(NamedTuple):
    """What a step learns from."""

    images: Tensor
    labels: Tensor
    taught: Outputs | None  # what the teacher says
    key: Key  # of what is random in it
    settings: Mapping[str, float]
    learning_rate: float


class Learning(Protocol):
    """What a training asks of those who learn in it."""

    name: str
    parameters: list[Tensor]  # all that is trained
    sums: Sums

    @property
    def moments(self) -> list[Tensor]:
        """The optimizer's, to be copied from and into."""

    def step(self, step: Step) -> None: ...


class One:
    """A learner in training, with an optimizer of its own: nothing in its step depends on other learners, unless one is its peer."""

    def __init__(self, learner: Learner, optimizer: str, ranks: Ranks):
        self.name, self.sums = learner.name, Sums(learner.name)
        self._learner, self._ranks, self._passes = learner, ranks, passes(learner.model)
        projection = learner.connection.projection if learner.connection else None
        self.parameters = self._passes.parameters + list((projection or nn.Module()).parameters())
        self._optimizer = OPTIMIZERS[optimizer](self.parameters)

    @property
    def moments(self) -> list[Tensor]:
        return self._optimizer.state

    def step(self, step: Step) -> None:
        """One step of the optimizer."""
        self.learn(self.answer(step), step.taught, step)

    def answer(self, step: Step) -> Outputs:
        """What the model says of the images now, detached; with hidden layers where the objective compares them."""
        return self._passes.outputs(step.images, step.key, self._learner.connection is not None)

    def learn(self, said: Outputs, against: Outputs | None, step: Step) -> None:
        """One step of the optimizer, from what was answered last and what it is held against."""
        learner, images = self._learner, len(step.images)
        terms, by_said, by_projection = wanted(
            learner.objective,
            said,
            against,
            step.labels,
            learner.settings or step.settings,
            learner.connection,
        )
        gradients = [*self._passes.gradients(by_said), *by_projection]
        self._optimizer.step(self._ranks.summed(gradients, images), step.learning_rate)
        self.sums.add(self._ranks.weighted(terms, images), said.logits, step.labels)


class Sums:
    """A learner's losses and right answers since the last record.

    Steps only put them down; they are summed by the dozen, and no step waits for them.
    """

    def __init__(self, name: str):
        self._name = name
        self.begin()

    def begin(self) -> None:
        """Forgets what was before."""
        self._steps = 0
        self._losses: dict[str, list[Tensor]] = {}
        self._logits: list[Tensor] = []
        self._labels: list[Tensor] = []
        self._right: list[Tensor] = []
        self._labelled: list[Tensor] = []

    def add(self, terms: Mapping[str, Tensor], logits: Tensor, labels: Tensor) -> None:
        self._steps += 1
        for name, term in terms.items():
            self._losses.setdefault(name, []).append(term)
        self._logits.append(logits)
        self._labels.append(labels)
        if len(self._labels) == TOGETHER:
            self._sum()

    def _sum(self) -> None:
        labels = torch.cat(self._labels)
        self._right.append((torch.cat(self._logits).argmax(1) == labels).sum())
        self._labelled.append((labels != UNLABELLED).sum())
        self._logits.clear()
        self._labels.clear()
        for name, losses in self._losses.items():
            self._losses[name] = [torch.stack(losses).sum()]

    def means(self, total: Callable[[Tensor], Tensor]) -> tuple[dict[str, float], dict[str, float]]:
        """Of the losses, and the share of right answers, by names with the learner's; ``total`` adds up those of all processes."""
        if not self._steps:
            return {}, {}
        if self._labels:
            self._sum()
        counts = torch.stack(
            [
                torch.stack(self._labelled).sum(),
                torch.stack(self._right).sum(),
                *(sums[0] for sums in self._losses.values()),
            ]
        )
        labelled, right, *losses = total(counts).tolist()
        return (
            {f"{self._name} {name}": loss / self._steps for name, loss in zip(self._losses, losses)},
            {self._name: right / labelled} if labelled else {},
        )
