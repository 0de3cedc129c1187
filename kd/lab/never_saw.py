"""The digit it never saw: distil a student without some digits, and recover them with an offset.

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
#: Student -> epochs if no digit is omitted.
EPOCHS = {"mlp-128": 6, "mlp-800x2": 12}
_LEARNING_RATE = {"mlp-128": 4e-3, "mlp-800x2": 1e-3}
EVEN = torch.full((MNIST.classes,), 1 / MNIST.classes)  # class frequencies, approximately MNIST's


def recipe(student: str, omitted: str, seed: int) -> DistilConfig:
    """Return a run with soft targets alone at the paper's T=20.

    The number of steps does not depend on how many digits are omitted.
    """
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
    """Return the recall (10,) of each class, from logits (N, 10) and labels (N,); NaN for absent classes."""
    right = (logits.argmax(1) == labels).double()
    return torch.stack([right[labels == digit].mean() for digit in range(MNIST.classes)])


def by_hand(omitted: str, offset: float) -> Tensor:
    """Return offsets (10,) of the logits: ``offset`` for each omitted digit, 0 for the others."""
    offsets = torch.zeros(MNIST.classes, dtype=torch.float64)
    offsets[[int(digit) for digit in omitted]] = offset
    return offsets


def by_frequency(logits: Tensor, omitted: str) -> Tensor:
    """Return offsets (10,) from the logits (N, 10) of unlabelled images with equally frequent classes."""
    return class_offsets.by_frequency(logits, omitted, EVEN)


class Errors(NamedTuple):
    """Numbers of misclassified images."""

    all: int
    omitted: int  # of the omitted digits


def errors(logits: Tensor, labels: Tensor, omitted: str) -> Errors:
    """Count the errors of logits (N, 10) on labels (N,), in all and on the omitted digits."""
    wrong = logits.argmax(1) != labels
    digits = torch.tensor([int(digit) for digit in omitted], dtype=labels.dtype)
    return Errors(int(wrong.sum()), int((wrong & torch.isin(labels, digits)).sum()))
