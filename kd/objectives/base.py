"""What all methods are made of: the two terms of Hinton's loss, and what a method is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from kd.data.digits import UNLABELLED
from kd.models.inference import Outputs

_MEAN = 1  # over the labelled images: a reduction, as PyTorch's operations number them

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
    looks: str | None = (
        None  # at which hidden layers of both networks, by the names in kd.objectives.feature_matching
    )
    projection: bool = (
        False  # whether the student's are mapped to the teacher's shapes by a layer that is trained with it
    )


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
    """soft_loss() with its gradient written out."""

    @staticmethod
    def forward(ctx, student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
        loss, gradient = _soft(student_logits, teacher_logits, temperature)
        ctx.save_for_backward(gradient)
        return loss

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        return ctx.saved_tensors[0] * gradient, None, None


def _soft(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """soft_loss() and its gradient by the student's logits: T * (student_T - teacher_T) / N, which is T^2 times equation 2 of the paper."""
    student = F.log_softmax(student_logits / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits / temperature, dim=1)
    probabilities, scale = teacher.exp(), temperature / len(student)
    # Over the batch alone; a mean over all elements would divide by N * C.
    loss = teacher.sub_(student).mul_(probabilities).sum() * (scale * temperature)
    return loss, student.exp_().sub_(probabilities).mul_(scale)


def _hard(logits: Tensor, labels: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    """weight * cross_entropy() and its gradient by the logits, by the operations that autograd would call."""
    shares = F.log_softmax(logits, dim=1)
    loss, count = torch.ops.aten.nll_loss_forward(shares, labels, None, _MEAN, UNLABELLED)
    by_shares = torch.ops.aten.nll_loss_backward(
        torch.full_like(loss, weight), shares, labels, None, _MEAN, UNLABELLED, count
    )
    return loss * weight, torch.ops.aten._log_softmax_backward_data(by_shares, shares, 1, logits.dtype)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of logits (N, 10) with labels (N,), mean over the images that have one."""
    return F.cross_entropy(logits, labels, ignore_index=UNLABELLED)


def beside_labels(soft: Mapping[str, Tensor], student: Outputs, labels: Tensor, settings: Settings) -> Terms:
    """soft_weight * each of the terms ``soft``, and (1 - soft_weight) * CE(labels)."""
    weight = settings["soft_weight"]
    return {name: weight * term for name, term in soft.items()} | {
        "hard": (1 - weight) * cross_entropy(student.logits, labels)
    }


def hinton(student: Outputs, teacher: Outputs | None, labels: Tensor, settings: Settings) -> Terms:
    """soft_weight * T^2 * KL(teacher_T || student_T) + (1 - soft_weight) * CE(labels).

    ``labels``: (N,) class numbers. ``settings``: temperature and soft_weight.
    Source: Hinton, Vinyals & Dean 2015, section 2.
    """
    soft = soft_loss(student.logits, teacher.logits, settings["temperature"])
    return beside_labels({"soft": soft}, student, labels, settings)


def hinton_with_gradient(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, settings: Settings
) -> tuple[Terms, Tensor]:
    """The terms of hinton(), and the gradient of their sum by the student's logits (N, 10)."""
    weight = settings["soft_weight"]
    soft, by_soft = _soft(student_logits, teacher_logits, settings["temperature"])
    hard, by_hard = _hard(student_logits, labels, 1 - weight)
    return {"soft": weight * soft, "hard": hard}, by_soft.mul_(weight).add_(by_hard)


def labels_only_with_gradient(student_logits: Tensor, labels: Tensor) -> tuple[Terms, Tensor]:
    """The term of labels_only(), and its gradient by the student's logits (N, 10)."""
    hard, by_hard = _hard(student_logits, labels, 1.0)
    return {"hard": hard}, by_hard


def labels_only(student: Outputs, teacher: Outputs | None, labels: Tensor, settings: Settings) -> Terms:
    """Cross-entropy with the labels: how controls and teachers learn."""
    return {"hard": cross_entropy(student.logits, labels)}
