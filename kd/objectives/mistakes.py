"""MISTAKES: the classic ways to get distillation wrong, each as it is usually written.

A mistake is in the loss, or in what the teacher answers. All are switched on in the
lab alone, beside the right way: see kd.experiments.mistake.
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

Loss = Callable[
    [Tensor, Tensor, float], Tensor
]  # student's and teacher's logits (N, 10), temperature -> scalar
Answers = Callable[[Digits], Tensor]  # digits of one or several batches -> (N, 10)


@dataclass(frozen=True)
class Mistake:
    """What goes wrong, and how.

    ``code`` is the mistake as people write it, ``right`` what should stand there; in both
    s and t are the student's and the teacher's logits. ``answers`` makes, from the
    teacher, the number of training images and the batch size, what is taken for its
    logits; None where those are right.
    """

    name: str
    title: str
    code: str
    right: str
    told: str
    loss: Loss = soft_loss
    answers: Callable[[nn.Module, int, int], Answers] | None = None


def without_t2(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    return soft_loss(student, teacher, temperature) / temperature**2


def mean_over_classes(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    return soft_loss(student, teacher, temperature) / student.shape[1]


def softmax_for_log_softmax(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    return (
        F.kl_div(
            (student / temperature).softmax(1), (teacher / temperature).softmax(1), reduction="batchmean"
        )
        * temperature**2
    )


def swapped(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    return (
        F.kl_div(
            (teacher / temperature).log_softmax(1), (student / temperature).softmax(1), reduction="batchmean"
        )
        * temperature**2
    )


def in_train_mode(teacher: nn.Module, images: int, batch_size: int) -> Answers:
    """The teacher as it is while it trains: dropout, and statistics of each batch, which it also goes on gathering."""
    teacher = copy.deepcopy(teacher).train()

    @torch.no_grad()
    def answers(digits: Digits) -> Tensor:
        return torch.cat(
            [
                teacher(part.contiguous(memory_format=torch.channels_last))
                for part in digits.inputs().split(batch_size)
            ]
        )

    return answers


def by_position(teacher: nn.Module, images: int, batch_size: int) -> Answers:
    """The logits that the first epoch had at this place; later epochs have other images there."""
    kept: list[Tensor] = []
    at = 0

    @torch.inference_mode()
    def answers(digits: Digits) -> Tensor:
        nonlocal at
        if sum(map(len, kept)) < images:
            kept.append(
                torch.cat(
                    [
                        teacher(part.contiguous(memory_format=torch.channels_last))
                        for part in digits.inputs().split(64)
                    ]
                )
            )
            return kept[-1].clone()
        found = torch.cat(kept)[at : at + len(digits)].clone()
        at = (at + len(digits)) % images
        return found

    return answers


MISTAKES: dict[str, Mistake] = {
    mistake.name: mistake
    for mistake in [
        Mistake(
            "no-t2",
            "No T²",
            "F.kl_div(log_softmax(s / T), softmax(t / T), reduction='batchmean')",
            "… * T**2",
            "A softmax at temperature T has gradients T² smaller. Without the factor T² the labels drown out the teacher, the more the higher the temperature. "
            "Where labels are good and many it hardly shows; with soft targets alone Adam hides it, which scales every gradient to the same size.",
            loss=without_t2,
        ),
        Mistake(
            "mean",
            "Mean over classes",
            "F.kl_div(…, reduction='mean') * T**2",
            "reduction='batchmean'",
            "PyTorch's default divides by all elements, so by the number of classes too: the teacher speaks at a tenth of its weight. PyTorch warns of it, in its documentation and at run time.",
            loss=mean_over_classes,
        ),
        Mistake(
            "train-mode",
            "Teacher in train mode",
            "teacher.train(); t = teacher(x)",
            "teacher.eval()",
            "Dropout makes its answers noise, batch normalization makes them depend on the other images of the batch. It is noise about the right answer, so "
            "that much of it averages out; a run cannot be repeated, though, and the teacher's own statistics drift.",
            answers=in_train_mode,
        ),
        Mistake(
            "position",
            "Cached by batch position",
            "t = cache[batch_number]",
            "t = cache[image_ids]",
            "The loader shuffles anew in each epoch, so from the second epoch on each image gets another image's answer. The loss "
            "still falls, to what the average answer is worth, and the higher the teacher's weight, the worse the student.",
            answers=by_position,
        ),
        Mistake(
            "softmax",
            "Softmax for log-softmax",
            "F.kl_div(softmax(s / T), softmax(t / T), …) * T**2",
            "log_softmax(s / T)",
            "kl_div wants logarithms first. Given probabilities it returns a number all the same, often below zero, whose gradient only pulls "
            "up the class that the teacher likes best, and less and less as the student gets unsure.",
            loss=softmax_for_log_softmax,
        ),
        Mistake(
            "swapped",
            "Swapped arguments",
            "F.kl_div(log_softmax(t / T), softmax(s / T), …) * T**2",
            "kl_div(log_softmax(s / T), softmax(t / T))",
            "The KL divergence the other way round asks another question: do not say what the teacher rules out. It is a method of its own (reverse KL), and on a "
            "task this easy nobody notices, which makes it the hardest of these to find.",
            loss=swapped,
        ),
    ]
}
