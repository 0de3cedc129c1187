"""Many students of one shape trained as one batched computation, on the same batches, each with settings of its own."""

from __future__ import annotations

from typing import Mapping

import torch
from torch import Tensor

from kd.batched import Wide
from kd.data import Digits, Mnist
from kd.models import Outputs
from kd.objectives.stacked import Stacked
from kd.train import Learner, Plan, Teacher, Training, _Sums, learning_rate_at

CHUNK = 1000  # images that all students classify at once


class Together(Training):
    """As Training, for multilayer perceptrons of one shape whose objectives look at answers alone.

    There is no Python for each learner in a step, losses are not noted, and a learner that goes out of bounds
    leaves the others as they are.

    Args:
        learners: with their own settings.
    """

    _parallel = Wide
    _networks: Wide

    def __init__(self, learners: list[Learner], mnist: Mnist, plan: Plan, teacher: Teacher | None):
        super().__init__(learners, mnist, plan, {}, teacher)
        device = mnist.train.labels.device
        self._losses = Stacked([learner.objective for learner in learners], [learner.settings or {} for learner in learners], device)

    @torch.no_grad()
    def _train(self, images: Tensor, labels: Tensor, taught: Outputs | None, since: _Sums) -> None:
        by_logits = self._losses.gradient(self._networks.logits(images), taught and taught.logits, labels)
        self._optimizer.step(self._networks.backward(by_logits), learning_rate_at(self.step, self.steps, self.plan.learning_rate))
        self.step += 1
        since.batch_ends(labels, len(labels))

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
        return torch.cat([self._networks.logits(part) for part in digits.inputs().split(CHUNK)], 2).transpose(1, 2)
