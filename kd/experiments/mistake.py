"""A student that is taught with a mistake, compared with one that is taught correctly and a control."""

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
from kd.experiments.base import Experiment, NetworkTeacher, few_labels
from kd.models import registry
from kd.objectives import Outputs, Terms, hinton, labels_only, soft_loss
from kd.objectives.base import with_label_term
from kd.objectives.feature_matching import Connection, View
from kd.objectives.mistakes import MISTAKES, Answers, Mistake
from kd.training.learner import Learner
from kd.training.loop import Plan, Record, Teacher, every_epoch


class MisleadingTeacher:
    """A teacher whose hidden layer holds the logits that the mistake uses in place of the correct ones."""

    def __init__(self, teacher: Teacher, wrong: Answers):
        self._teacher, self._wrong = teacher, wrong

    def logits(self, digits: Digits) -> Tensor:
        """Return the correct logits (N, 10)."""
        return self._teacher.logits(digits)

    def outputs(self, digits: Digits, view: View) -> Outputs:
        """Return the correct logits and, as a feature, the wrong ones, (N, 10) each."""
        return Outputs(self._teacher.logits(digits), (self._wrong(digits),))


class MistakenObjective:
    """The objective with the mistake. It compares the norm of its gradient with the correct one."""

    def __init__(self, mistake: Mistake):
        self._mistake = mistake
        self._ratios: list[Tensor] = []

    def __call__(
        self, student: Outputs, teacher: Outputs | None, labels: Tensor, settings: Mapping[str, float]
    ) -> Terms:
        """Return the weighted loss terms and record the ratio of the gradients."""
        assert teacher is not None, "a mistake concerns the teacher's logits"
        temperature = settings["temperature"]
        taken = teacher.features[0] if teacher.features else teacher.logits
        self._ratios.append(
            gradient_ratio(self._mistake, student.logits.detach(), taken, teacher.logits, temperature)
        )
        return with_label_term(
            {"soft": self._mistake.loss(student.logits, taken, temperature)}, student, labels, settings
        )

    def ratio(self) -> float:
        """Return the mean ratio since the last call."""
        mean = torch.stack(self._ratios).mean().item()
        self._ratios.clear()
        return mean


def gradient_ratio(
    mistake: Mistake, student: Tensor, taken: Tensor, right: Tensor, temperature: float
) -> Tensor:
    """Return the norm of the mistaken gradient divided by the norm of the correct one.

    Both are gradients of the soft loss with respect to the student's logits.

    Args:
        mistake: the mistake.
        student: (N, 10) the student's logits.
        taken: (N, 10) the logits that the mistake takes for the teacher's.
        right: (N, 10) the teacher's logits.
        temperature: the temperature T.
    """
    with torch.enable_grad():
        student = student.clone().requires_grad_()
        wrong_gradient = torch.autograd.grad(mistake.loss(student, taken, temperature), student)[0]
        right_gradient = torch.autograd.grad(soft_loss(student, right, temperature), student)[0]
    return wrong_gradient.norm() / right_gradient.norm().clamp_min(1e-12)


class MistakeExperiment(Experiment):
    """Three networks with the same initial weights and batches: correct, with the mistake, and a control."""

    config: MistakeConfig
    reference: NetworkTeacher
    teacher: NetworkTeacher

    def __init__(self, config: MistakeConfig, mnist: Mnist, teacher: NetworkTeacher):
        self.config, self.mnist = config, mnist.to(training_device())
        self.reference = self.teacher = teacher
        self.transfer = dataclasses.replace(self.mnist, train=few_labels(self.mnist.train, config))
        self.stages = [self._stage]
        usual = DistilConfig()
        self.plan = Plan(config.epochs, usual.batch_size, usual.learning_rate, config.seed)
        self.settings = {"temperature": config.temperature, "soft_weight": config.soft_weight}

    def _stage(self, earlier: Mapping[str, nn.Module]) -> tuple[list[Learner], Teacher]:
        mistake = MISTAKES[self.config.mistake]
        self._mistaken = MistakenObjective(mistake)
        teacher: Teacher = self.teacher
        connection = None
        if mistake.answers:
            wrong = mistake.answers(self.reference.model, len(self.transfer.train), self.plan.batch_size)
            teacher = MisleadingTeacher(self.teacher, wrong)
            connection = Connection(View((), ()), View((0,), (1,)), None)
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
        """Train as any experiment does, and add the ratio of the gradient norms to each record.

        A mistake's memory, such as the first epoch's logits, is not in a checkpoint: it is computed again.
        """
        inner = super().records(due, state)

        def measured() -> Generator[Record, Any, None]:
            for record in inner:
                yield dataclasses.replace(
                    record, fidelity={**record.fidelity, "gradient ratio": self._mistaken.ratio()}
                )

        return measured()
