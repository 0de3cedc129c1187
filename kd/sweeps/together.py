"""Train many students of one shape as one batched computation, each with settings of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from kd.data.digits import Digits, Mnist
from kd.objectives.stacked import StackedLosses
from kd.training.forward_backward import WidePerceptrons
from kd.training.learner import Learner, RunningMeans, Step, Trainable
from kd.training.loop import Plan, Teacher, Training
from kd.training.optimizers import OPTIMIZERS

CHUNK = 1000  # images that all students classify at once


class _StackedLearners:
    """All learners as one: a step runs no Python code for each of them, and losses are not recorded."""

    name = "all"

    def __init__(self, learners: list[Learner], optimizer: str, device: torch.device):
        self.passes = WidePerceptrons([learner.model for learner in learners])
        self.means = RunningMeans(self.name)
        self.parameters = self.passes.parameters
        self._losses = StackedLosses(
            [learner.objective for learner in learners],
            [learner.settings or {} for learner in learners],
            device,
        )
        self._optimizer = OPTIMIZERS[optimizer](self.parameters)

    @property
    def moments(self) -> list[Tensor]:
        return self._optimizer.state

    @torch.no_grad()
    def step(self, step: Step) -> None:
        by_logits = self._losses.gradient(
            self.passes.logits(step.images), step.teacher and step.teacher.logits, step.labels
        )
        self._optimizer.step(self.passes.backward(by_logits), step.learning_rate)


class BatchedTraining(Training):
    """Training for multilayer perceptrons of one shape whose objectives read only logits.

    A learner that diverges does not affect the others.

    Args:
        learners: the learners, with their own settings.
        mnist: the data.
        plan: the settings that stay fixed.
        teacher: the teacher of all learners, if any.
    """

    def __init__(self, learners: list[Learner], mnist: Mnist, plan: Plan, teacher: Teacher | None):
        super().__init__(learners, mnist, plan, {}, teacher)

    def _make_trainables(self) -> Sequence[Trainable]:
        self._all = _StackedLearners(self.learners, self.plan.optimizer, self.mnist.train.labels.device)
        return [self._all]

    def _save_weights(self) -> None:
        pass

    def _check_finite(self, losses: Mapping[str, float]) -> None:
        pass

    def _evaluate(self, digits: Digits) -> tuple[dict[str, float], dict[str, float]]:
        """Return the accuracy by learner, and the agreement with the teacher if there is one."""
        predictions, names = self.logits(digits).argmax(2), [learner.name for learner in self.learners]
        accuracy = dict(zip(names, (predictions == digits.labels).float().mean(1).tolist()))
        if self.teacher is None:
            return accuracy, {}
        agreement = (predictions == self.teacher.logits(digits).argmax(1)).float().mean(1).tolist()
        return accuracy, {f"agreement {name}": value for name, value in zip(names, agreement)}

    @torch.no_grad()
    def logits(self, digits: Digits) -> Tensor:
        """Return the logits (L, N, 10) of all learners."""
        parts = [self._all.passes.logits(part) for part in digits.inputs().split(CHUNK)]
        return torch.cat(parts, 2).transpose(1, 2)
