"""A student that is taught with a mistake, beside one that is taught right and their control."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from kd.config.distil import DistilConfig
from kd.config.mistake import MistakeConfig
from kd.data.digits import Digits, Mnist
from kd.device import training_device
from kd.experiments.base import Experiment, few_labels
from kd.models import registry
from kd.objectives import Outputs, Terms, hinton, labels_only, soft_loss
from kd.objectives.base import beside_labels
from kd.objectives.feature_matching import Connection, View
from kd.objectives.mistakes import MISTAKES, Answers, Mistake
from kd.teachers.averaged import MeanTeacher
from kd.teachers.cached import CachedTeacher
from kd.training.learner import Learner
from kd.training.loop import Plan, Record, Teacher, every_epoch
from kd.training.stages import Stage


class Misled:
    """A teacher that answers right, and beside it, as a hidden layer, what the mistake takes for its answers."""

    def __init__(self, teacher: Teacher, wrong: Answers):
        self._teacher, self._wrong = teacher, wrong

    def logits(self, digits: Digits) -> Tensor:
        return self._teacher.logits(digits)

    def outputs(self, digits: Digits, view: View) -> Outputs:
        return Outputs(self._teacher.logits(digits), (self._wrong(digits),))


class Mistaken:
    """The objective with the mistake. It measures the gradient that it gives against the right one."""

    def __init__(self, mistake: Mistake):
        self._mistake = mistake
        self._ratios: list[Tensor] = []

    def __call__(
        self, student: Outputs, teacher: Outputs | None, labels: Tensor, settings: Mapping[str, float]
    ) -> Terms:
        temperature = settings["temperature"]
        taken = teacher.features[0] if teacher.features else teacher.logits
        self._ratios.append(
            gradient_ratio(self._mistake, student.logits.detach(), taken, teacher.logits, temperature)
        )
        return beside_labels(
            {"soft": self._mistake.loss(student.logits, taken, temperature)}, student, labels, settings
        )

    def ratio(self) -> float:
        """The mean since it was last asked for."""
        found = torch.stack(self._ratios).mean().item()
        self._ratios.clear()
        return found


def gradient_ratio(
    mistake: Mistake, student: Tensor, taken: Tensor, right: Tensor, temperature: float
) -> Tensor:
    """The norm of the mistake's gradient by the student's logits (N, 10), over the norm of the right one.

    Args:
        taken: (N, 10), what the mistake takes for the teacher's logits. ``right``: what they are.
    """
    with torch.enable_grad():
        student = student.clone().requires_grad_()
        wrong_gradient = torch.autograd.grad(mistake.loss(student, taken, temperature), student)[0]
        right_gradient = torch.autograd.grad(soft_loss(student, right, temperature), student)[0]
    return wrong_gradient.norm() / right_gradient.norm().clamp_min(1e-12)


class Breaking(Experiment):
    """Three networks with the same initial weights on the same batches: taught right, taught with the mistake, by labels alone."""

    def __init__(self, config: MistakeConfig, mnist: Mnist, teacher: CachedTeacher | MeanTeacher):
        self.config, self.mnist, self.reference, self.teacher = (
            config,
            mnist.to(training_device()),
            teacher,
            teacher,
        )
        self.transfer = dataclasses.replace(self.mnist, train=few_labels(self.mnist.train, config))
        self.stages: list[Stage] = [self._stage]
        usual = DistilConfig()
        self.plan = Plan(config.epochs, usual.batch_size, usual.learning_rate, config.seed)
        self.settings = {"temperature": config.temperature, "soft_weight": config.soft_weight}

    def _stage(self, earlier: Mapping[str, nn.Module]) -> tuple[list[Learner], Teacher]:
        mistake = MISTAKES[self.config.mistake]
        self._mistaken = Mistaken(mistake)
        teacher, connection = self.teacher, None
        if mistake.answers:
            wrong = mistake.answers(self.reference.model, len(self.transfer.train), self.plan.batch_size)
            teacher, connection = Misled(teacher, wrong), Connection(View((), ()), View((0,), (1,)), None)
        return [
            Learner("student", self._network(), hinton),
            Learner("mistaken", self._network(), self._mistaken, connection),
            Learner("control", self._network(), labels_only),
        ], teacher

    def _network(self) -> nn.Module:
        return registry.build(self.config.student, self.config.seed).to(training_device())

    def records(
        self, due: Callable[[int], bool] = every_epoch, state: Mapping[str, Tensor] | None = None
    ) -> Generator[Record, None, None]:
        """As of any experiment, and each record tells how long the mistake's gradients were since the one before.

        What a mistake keeps in mind, such as the first epoch's answers, is not in a checkpoint: it is made anew.
        """
        inner = super().records(due, state)

        def measured() -> Generator[Record, Any, None]:
            for record in inner:
                yield dataclasses.replace(
                    record, fidelity={**record.fidelity, "gradient ratio": self._mistaken.ratio()}
                )

        return measured()
