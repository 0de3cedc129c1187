"""Many students of one shape trained as one batched computation, on the same batches, each with settings of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from kd.data.digits import Digits, Mnist
from kd.objectives.stacked import Stacked
from kd.training.forward_backward import Wide
from kd.training.learner import Learner, Learning, Step, Sums
from kd.training.loop import Plan, Teacher, Training
from kd.training.optimizers import OPTIMIZERS

CHUNK = 1000  # images that all students classify at once


class _All:
    """All learners as one: there is no Python for each of them in a step, and losses are not noted."""

    name = "all"

    def __init__(self, learners: list[Learner], optimizer: str, device: torch.device):
        self.passes, self.sums = Wide([learner.model for learner in learners]), Sums(self.name)
        self.parameters = self.passes.parameters
        self._losses = Stacked(
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
            self.passes.logits(step.images), step.taught and step.taught.logits, step.labels
        )
        self._optimizer.step(self.passes.backward(by_logits), step.learning_rate)


class Together(Training):
    """As Training, for multilayer perceptrons of one shape whose objectives look at answers alone.

    A learner that goes out of bounds leaves the others as they are.

    Args:
        learners: with their own settings.
    """

    def __init__(self, learners: list[Learner], mnist: Mnist, plan: Plan, teacher: Teacher | None):
        super().__init__(learners, mnist, plan, {}, teacher)

    def _prepared(self) -> Sequence[Learning]:
        self._all = _All(self.learners, self.plan.optimizer, self.mnist.train.labels.device)
        return [self._all]

    def _remember(self) -> None:
        pass

    def _check(self, losses: Mapping[str, float]) -> None:
        pass

    def _judge(self, digits: Digits) -> tuple[dict[str, float], dict[str, float]]:
        """Accuracy by learner, and agreement with the teacher, where there is one."""
        guesses, names = self.said(digits).argmax(2), [learner.name for learner in self.learners]
        found = dict(zip(names, (guesses == digits.labels).float().mean(1).tolist()))
        if self.teacher is None:
            return found, {}
        agree = (guesses == self.teacher.logits(digits).argmax(1)).float().mean(1).tolist()
        return found, {f"agreement {name}": share for name, share in zip(names, agree)}

    @torch.no_grad()
    def said(self, digits: Digits) -> Tensor:
        """The logits (L, N, 10) of all learners."""
        return torch.cat(
            [self._all.passes.logits(part) for part in digits.inputs().split(CHUNK)], 2
        ).transpose(1, 2)
