"""The digit it never saw: a student distilled without some digits, and the offset that brings them back.

Source: Hinton, Vinyals & Dean 2015, section 3.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kd.config.distil import DistilConfig
from kd.data.task import MNIST
from kd.metrics import class_offsets

PRESETS = {"No 3": "3", "Only 7 and 8": "01234569"}
#: Student -> epochs where all digits are there.
EPOCHS = {"mlp-128": 6, "mlp-800x2": 12}
_LEARNING_RATE = {"mlp-128": 4e-3, "mlp-800x2": 1e-3}
EVEN = torch.full((MNIST.classes,), 1 / MNIST.classes)  # how often each digit comes, in MNIST near enough


def recipe(student: str, omitted: str, seed: int) -> DistilConfig:
    """A run with soft targets alone at the paper's T=20; as many steps whatever is left out."""
    epochs = round(EPOCHS[student] * MNIST.classes / (MNIST.classes - len(omitted)))
    return DistilConfig(
        student=student,
        omitted=omitted,
        seed=seed,
        temperature=20.0,
        soft_weight=1.0,
        epochs=epochs,
        learning_rate=_LEARNING_RATE[student],
    )


def recall(logits: Tensor, labels: Tensor) -> Tensor:
    """(10,) for each digit the share of its images that logits (N, 10) read right; NaN where there are none."""
    right = (logits.argmax(1) == labels).double()
    return torch.stack([right[labels == digit].mean() for digit in range(MNIST.classes)])


def by_hand(omitted: str, offset: float) -> Tensor:
    """Offsets (10,): the same for each digit left out, 0 for the others."""
    found = torch.zeros(MNIST.classes, dtype=torch.float64)
    found[[int(digit) for digit in omitted]] = offset
    return found


def by_frequency(logits: Tensor, omitted: str) -> Tensor:
    """Offsets (10,) from logits (N, 10) of unlabelled images in which all digits are alike in number."""
    return class_offsets.by_frequency(logits, omitted, EVEN)


class Errors(NamedTuple):
    """``all`` of the images, and those among them that are of a digit left out."""

    all: int
    omitted: int


def errors(logits: Tensor, labels: Tensor, omitted: str) -> Errors:
    wrong = logits.argmax(1) != labels
    return Errors(
        int(wrong.sum()),
        int(
            (
                wrong
                & torch.isin(labels, torch.tensor([int(digit) for digit in omitted], dtype=labels.dtype))
            ).sum()
        ),
    )
