"""List common mistakes in distillation code, each as it is usually written (MISTAKES).

A mistake is in the loss or in the teacher's logits. Mistakes can be switched on only in the lab, next to the
correct code: see kd.experiments.mistake.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.data.digits import Digits
from kd.objectives import soft_loss

#: Student logits and teacher logits, (N, 10), and temperature -> scalar.
Loss = Callable[[Tensor, Tensor, float], Tensor]
#: Digits of one or several batches -> logits, (N, 10).
Answers = Callable[[Digits], Tensor]


@dataclass(frozen=True)
class Mistake:
    """A mistake in distillation code.

    Attributes:
        name: its name in configs and links.
        title: its name in the lab.
        code: the wrong code; s and t are the logits of student and teacher.
        right: the correct code.
        told: the explanation shown in the lab.
        loss: the soft loss with the mistake.
        answers: takes the teacher, the number of training images and the batch size, and returns a
            function that computes wrong teacher logits; None if the mistake is in the loss.
    """

    name: str
    title: str
    code: str
    right: str
    told: str
    loss: Loss = soft_loss
    answers: Callable[[nn.Module, int, int], Answers] | None = None


def without_t2(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return the soft loss without its factor T^2."""
    return soft_loss(student, teacher, temperature) / temperature**2


def mean_over_classes(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return the soft loss divided by the number of classes."""
    return soft_loss(student, teacher, temperature) / student.shape[1]


def softmax_for_log_softmax(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return kl_div of probabilities in place of log-probabilities, times T^2."""
    return (
        F.kl_div(
            (student / temperature).softmax(1), (teacher / temperature).softmax(1), reduction="batchmean"
        )
        * temperature**2
    )


def swapped(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return T^2 * KL(student || teacher), the reverse of the soft loss."""
    return (
        F.kl_div(
            (teacher / temperature).log_softmax(1), (student / temperature).softmax(1), reduction="batchmean"
        )
        * temperature**2
    )


def in_train_mode(teacher: nn.Module, images: int, batch_size: int) -> Answers:
    """Return a function that computes the logits of a copy of the teacher in training mode.

    Dropout is active, and batch normalization uses batch statistics and updates its running ones.
    """
    teacher = copy.deepcopy(teacher).train()

    @torch.no_grad()
    def logits(digits: Digits) -> Tensor:
        return torch.cat(
            [
                teacher(part.contiguous(memory_format=torch.channels_last))
                for part in digits.inputs().split(batch_size)
            ]
        )

    return logits


def by_position(teacher: nn.Module, images: int, batch_size: int) -> Answers:
    """Return a function that caches logits by their position in the first epoch.

    In later epochs, other images have these positions.
    """
    cache: list[Tensor] = []
    position = 0

    @torch.inference_mode()
    def cached_logits(digits: Digits) -> Tensor:
        nonlocal position
        if sum(map(len, cache)) < images:
            cache.append(
                torch.cat(
                    [
                        teacher(part.contiguous(memory_format=torch.channels_last))
                        for part in digits.inputs().split(64)
                    ]
                )
            )
            return cache[-1].clone()
        logits = torch.cat(cache)[position : position + len(digits)].clone()
        position = (position + len(digits)) % images
        return logits

    return cached_logits


MISTAKES: dict[str, Mistake] = {
    mistake.name: mistake
    for mistake in [
        Mistake(
            "no-t2",
            "No T²",
            "F.kl_div(log_softmax(s / T), softmax(t / T), reduction='batchmean')",
            "… * T**2",
            "Gradients of a softmax at temperature T are T² times smaller. Without the factor T², the "
            "labels outweigh the teacher, more so at higher temperatures. With many correct labels you "
            "hardly notice. With soft targets alone, Adam hides it, because it scales all gradients to the "
            "same size.",
            loss=without_t2,
        ),
        Mistake(
            "mean",
            "Mean over classes",
            "F.kl_div(…, reduction='mean') * T**2",
            "reduction='batchmean'",
            "PyTorch's default divides by the number of elements, and so by the number of classes too: the "
            "teacher has a tenth of its weight. PyTorch warns about this in its documentation and at run "
            "time.",
            loss=mean_over_classes,
        ),
        Mistake(
            "train-mode",
            "Teacher in train mode",
            "teacher.train(); t = teacher(x)",
            "teacher.eval()",
            "Dropout adds noise to the teacher's logits, and batch normalization makes them depend on the "
            "other images of the batch. Much of the noise averages out, but the run cannot be repeated and "
            "the teacher's own statistics drift.",
            answers=in_train_mode,
        ),
        Mistake(
            "position",
            "Cached by batch position",
            "t = cache[batch_number]",
            "t = cache[image_ids]",
            "The loader shuffles again in each epoch, so from the second epoch on each image gets the "
            "logits of another image. The loss still falls, as the student learns the average output. The "
            "higher the teacher's weight, the worse the student.",
            answers=by_position,
        ),
        Mistake(
            "softmax",
            "Softmax for log-softmax",
            "F.kl_div(softmax(s / T), softmax(t / T), …) * T**2",
            "log_softmax(s / T)",
            "kl_div expects log-probabilities first. With probabilities it still returns a number, often "
            "below zero. Its gradient only raises the class that the teacher prefers, and gets weaker the "
            "less certain the student is.",
            loss=softmax_for_log_softmax,
        ),
        Mistake(
            "swapped",
            "Swapped arguments",
            "F.kl_div(log_softmax(t / T), softmax(s / T), …) * T**2",
            "kl_div(log_softmax(s / T), softmax(t / T))",
            "The reverse KL divergence asks for something else: give no probability to classes that the "
            "teacher rules out. It is a method of its own (reverse KL). On a task this easy nobody notices, "
            "which makes this mistake the hardest to find.",
            loss=swapped,
        ),
    ]
}
