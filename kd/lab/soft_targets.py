"""A teacher's soft targets for one image and for a class.

Source: Hinton, Vinyals & Dean 2015, sections 1 and 2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kd.data.task import MNIST


def soft_targets(logits: Tensor, temperature: float) -> Tensor:
    """Return the probabilities softmax(logits / T), (..., 10) float64, of logits (..., 10)."""
    return (logits.double() / temperature).softmax(-1)


def entropy(probabilities: Tensor) -> Tensor:
    """Return the entropy (...) in bits of probabilities (..., 10).

    It is 0 for a one-hot label and 3.32 for ten equal probabilities.
    """
    return torch.special.entr(probabilities).sum(-1) / torch.log(torch.tensor(2.0, dtype=torch.float64))


def most_like(
    logits: Tensor, labels: Tensor, digit: int, like: int, temperature: float, count: int
) -> tuple[Tensor, Tensor]:
    """Find the images of a digit to which the teacher gives the highest probability of another class.

    Args:
        logits: (N, 10) of the teacher.
        labels: (N,).
        digit: the class whose images are searched.
        like: the other class.
        temperature: the temperature T.
        count: the largest number of images to return.

    Returns:
        The indices of the images, (count,), the highest probability first, and the probability of
        ``like`` in each, (count,).
    """
    places = (labels == digit).nonzero().squeeze(1)
    shares = soft_targets(logits[places], temperature)[:, like]
    order = shares.argsort(descending=True, stable=True)[:count]
    return places[order], shares[order]


def look_alikes(
    logits: Tensor, labels: Tensor, digit: int, temperature: float
) -> dict[int, tuple[int, float]]:
    """Find for each other class the image of ``digit`` that is most like it.

    Args:
        logits: (N, 10) of the teacher.
        labels: (N,).
        digit: the class whose images are searched.
        temperature: the temperature T.

    Returns:
        Class -> the index of the image and its probability of that class.
    """
    closest = {}
    for like in range(MNIST.classes):
        places, shares = most_like(logits, labels, digit, like, temperature, 1)
        if like != digit and len(places):
            closest[like] = int(places[0]), float(shares[0])
    return closest


def class_averages(logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return the mean soft target (10, 10) of each class, from logits (N, 10) and labels (N,).

    Row a, column b is the mean probability of b for images of a; the row of a class without images
    is NaN.
    """
    targets = soft_targets(logits, temperature)
    return torch.stack([targets[labels == digit].mean(0) for digit in range(MNIST.classes)])


def most_doubtful(logits: Tensor, count: int) -> Tensor:
    """Return the indices (count,) of the images with the highest entropy at T=1, the highest first.

    Args:
        logits: (N, 10) of the teacher.
        count: the largest number of images to return.
    """
    return entropy(soft_targets(logits, 1.0)).topk(min(count, len(logits))).indices
