"""What all methods are made of: the two terms of Hinton's loss, and what a method is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from kd.data import UNLABELLED
from kd.models import Outputs

Settings = Mapping[str, float]
Terms = dict[str, Tensor]
Objective = Callable[[Outputs, Outputs | None, Tensor, Settings], Terms]


@dataclass(frozen=True)
class Method:
    """A way to teach a student.

    ``objective`` takes what student and teacher said about one batch, the labels (N,)
    and the settings, and returns the named terms of the loss, already weighted.
    """

    name: str
    title: str
    purpose: str  # one line, shown in the app
    paper: str
    objective: Objective
    settings: tuple[str, ...]  # the settings that it reads
    teacher: bool = True  # whether a teacher teaches
    looks: str | None = None  # at which hidden layers of both networks, by the names in kd.connection
    projection: bool = False  # whether the student's are mapped to the teacher's shapes by a layer that is trained with it


def soft_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """T^2 * KL(teacher_T || student_T), summed over classes and averaged over the batch.

    Args:
        student_logits: (N, C).
        teacher_logits: (N, C), without gradient.
        temperature: T > 0; both softmaxes divide their logits by it.

    Returns:
        A scalar in nats, times T^2. The factor keeps the gradient's size when T
        changes, since the gradient of the KL itself falls as 1/T^2.

    Source: Hinton, Vinyals & Dean 2015, section 2 and equation 2-4.
    """
    return _SoftLoss.apply(student_logits, teacher_logits, temperature)


class _SoftLoss(torch.autograd.Function):
    """soft_loss() with its gradient written out, which takes half the time of the general way.

    The gradient by the student's logits is T * (student_T - teacher_T) / N, which is
    T^2 times equation 2 of the paper.
    """

    @staticmethod
    def forward(ctx, student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
        student = F.log_softmax(student_logits / temperature, dim=1)
        teacher = F.log_softmax(teacher_logits / temperature, dim=1)
        probabilities = teacher.exp()
        ctx.save_for_backward(student, probabilities)
        # Over the batch alone; a mean over all elements would divide by N * C.
        ctx.scale = temperature / len(student)
        return (teacher - student).mul_(probabilities).sum() * (ctx.scale * temperature)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        student, probabilities = ctx.saved_tensors
        return student.exp().sub_(probabilities).mul_(gradient * ctx.scale), None, None


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of logits (N, 10) with labels (N,), mean over the images that have one."""
    return F.cross_entropy(logits, labels, ignore_index=UNLABELLED)


def beside_labels(soft: Mapping[str, Tensor], student: Outputs, labels: Tensor, settings: Settings) -> Terms:
    """soft_weight * each of the terms ``soft``, and (1 - soft_weight) * CE(labels)."""
    weight = settings["soft_weight"]
    return {name: weight * term for name, term in soft.items()} | {"hard": (1 - weight) * cross_entropy(student.logits, labels)}


def hinton(student: Outputs, teacher: Outputs | None, labels: Tensor, settings: Settings) -> Terms:
    """soft_weight * T^2 * KL(teacher_T || student_T) + (1 - soft_weight) * CE(labels).

    ``labels``: (N,) class numbers. ``settings``: temperature and soft_weight.
    Source: Hinton, Vinyals & Dean 2015, section 2.
    """
    soft = soft_loss(student.logits, teacher.logits, settings["temperature"])
    return beside_labels({"soft": soft}, student, labels, settings)


def labels_only(student: Outputs, teacher: Outputs | None, labels: Tensor, settings: Settings) -> Terms:
    """Cross-entropy with the labels: how controls and teachers learn."""
    return {"hard": cross_entropy(student.logits, labels)}
