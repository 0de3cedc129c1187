"""Code that all methods share: the two terms of Hinton's loss, and the description of a method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kd.data.digits import UNLABELLED
from kd.models.inference import Outputs

_MEAN = 1  # PyTorch's number for the reduction "mean"

Settings = Mapping[str, float]
Terms = dict[str, Tensor]
#: Takes the outputs of student and teacher for one batch, labels (N,) and settings; returns the
#: named terms of the loss, already weighted, whose sum is the loss.
Objective = Callable[[Outputs, Outputs | None, Tensor, Settings], Terms]


@dataclass(frozen=True)
class Method:
    """A way to teach a student.

    Attributes:
        name: its name in links and on the command line.
        title: its name on screen.
        purpose: one line, shown in the app.
        paper: its source, as authors and year.
        objective: its loss.
        settings: the names of the settings that the objective reads.
        teacher: whether it needs a teacher.
        feature_view: which hidden layers it compares: "middle", "last" or "maps", as in
            kd.objectives.feature_matching; None if it compares logits only.
        projection: whether a trained layer maps the student's hidden layers to the teacher's shapes.
    """

    name: str
    title: str
    purpose: str
    paper: str
    objective: Objective
    settings: tuple[str, ...]
    teacher: bool = True
    feature_view: str | None = None
    projection: bool = False


def require_teacher(teacher: Outputs | None) -> Outputs:
    """Return ``teacher``.

    Raises:
        ValueError: it is None.
    """
    if teacher is None:
        raise ValueError("This objective needs the outputs of a teacher.")
    return teacher


def soft_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Return T^2 * KL(teacher_T || student_T), summed over classes and averaged over the batch.

    Source: Hinton, Vinyals & Dean 2015 (arXiv 1503.02531), section 2 and equations 2 to 4.

    Args:
        student_logits: (N, C).
        teacher_logits: (N, C), without gradient.
        temperature: T > 0; both softmaxes divide their logits by it.

    Returns:
        A scalar in nats, times T^2. The gradient of the KL divergence falls as 1/T^2, so the factor
        keeps the size of the gradient about the same at every temperature.
    """
    return _SoftLoss.apply(student_logits, teacher_logits, temperature)


class _SoftLoss(torch.autograd.Function):
    """soft_loss() with its analytic gradient."""

    @staticmethod
    def forward(ctx: Any, student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
        loss, gradient = soft_with_gradient(student_logits, teacher_logits, temperature)
        ctx.save_for_backward(gradient)
        return loss

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return ctx.saved_tensors[0] * gradient, None, None


def soft_with_gradient(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Return soft_loss() and its gradient with respect to the student's logits.

    The gradient is T * (student_T - teacher_T) / N: T^2 times equation 2 of the paper.
    """
    student = F.log_softmax(student_logits / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits / temperature, dim=1)
    probabilities, scale = teacher.exp(), temperature / max(1, len(student))
    # Average over the batch only; a mean over all elements would divide by N * C.
    loss = teacher.sub_(student).mul_(probabilities).sum() * (scale * temperature)
    return loss, student.exp_().sub_(probabilities).mul_(scale)


def hard_with_gradient(logits: Tensor, labels: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    """Return weight * cross_entropy() and its gradient, with the operators that autograd uses."""
    log_probabilities = F.log_softmax(logits, dim=1)
    loss, count = torch.ops.aten.nll_loss_forward(log_probabilities, labels, None, _MEAN, UNLABELLED)
    loss = loss.where(count > 0, 0)
    gradient = torch.ops.aten.nll_loss_backward(
        torch.full_like(loss, weight), log_probabilities, labels, None, _MEAN, UNLABELLED, count
    )
    return loss * weight, torch.ops.aten._log_softmax_backward_data(
        gradient, log_probabilities, 1, logits.dtype
    )


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of logits (N, C) with labels (N,), in nats: the mean over labelled images.

    It is 0 if no image has a label.
    """
    return zero_without_labels(F.cross_entropy(logits, labels, ignore_index=UNLABELLED), labels)


def zero_without_labels(mean: Tensor, labels: Tensor) -> Tensor:
    """Return ``mean``, a mean over labelled images; 0 if no image has a label, when it is 0 / 0."""
    return mean.where((labels != UNLABELLED).any(), 0)


def with_label_term(
    soft: Mapping[str, Tensor], student: Outputs, labels: Tensor, settings: Settings
) -> Terms:
    """Return the terms ``soft`` times soft_weight, and (1 - soft_weight) * CE(labels) as "hard"."""
    weight = settings["soft_weight"]
    terms = {name: weight * term for name, term in soft.items()}
    terms["hard"] = (1 - weight) * cross_entropy(student.logits, labels)
    return terms


def labels_only_with_gradient(student_logits: Tensor, labels: Tensor) -> tuple[Terms, Tensor]:
    """Return the term of labels_only(), and its gradient with respect to the student's logits (N, C)."""
    hard, gradient = hard_with_gradient(student_logits, labels, 1.0)
    return {"hard": hard}, gradient


def labels_only(student: Outputs, teacher: Outputs | None, labels: Tensor, settings: Settings) -> Terms:
    """Return the cross-entropy with the labels: the loss of controls and of teachers in training."""
    return {"hard": cross_entropy(student.logits, labels)}
