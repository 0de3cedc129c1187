"""What a teacher's soft targets say: of one image, and of a class.

Source: Hinton, Vinyals & Dean 2015, sections 1 and 2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kd.data.task import MNIST


def soft_targets(logits: Tensor, temperature: float) -> Tensor:
    """(..., 10) logits -> (..., 10) probabilities softmax(logits / T), float64."""
    return (logits.double() / temperature).softmax(-1)


def entropy(probabilities: Tensor) -> Tensor:
    """(..., 10) probabilities -> (...) their entropy in bits: 0 for a label, log2(10) = 3.32 where all classes are alike."""
    return torch.special.entr(probabilities).sum(-1) / torch.log(torch.tensor(2.0, dtype=torch.float64))


def most_like(
    logits: Tensor, labels: Tensor, digit: int, like: int, temperature: float, count: int
) -> tuple[Tensor, Tensor]:
    """The images of ``digit`` in which the teacher sees most of another class, most first.

    Args:
        logits: (N, 10) of the teacher. ``labels``: (N,).
        count: how many, at most.

    Returns:
        Their places, (count,), and the probability of ``like`` in each at the temperature, (count,).
    """
    places = (labels == digit).nonzero().squeeze(1)
    shares = soft_targets(logits[places], temperature)[:, like]
    order = shares.argsort(descending=True, stable=True)[:count]
    return places[order], shares[order]


def look_alikes(
    logits: Tensor, labels: Tensor, digit: int, temperature: float
) -> dict[int, tuple[int, float]]:
    """For each other class the image of ``digit`` that is most like it: class -> its place and the class's probability."""
    found = {}
    for like in range(MNIST.classes):
        places, shares = most_like(logits, labels, digit, like, temperature, 1)
        if like != digit and len(places):
            found[like] = int(places[0]), float(shares[0])
    return found


def class_averages(logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """(10, 10) the mean soft target of each class's images: row a, column b is how much of b the teacher sees in an a.

    NaN in the row of a class without images.
    """
    targets = soft_targets(logits, temperature)
    return torch.stack([targets[labels == digit].mean(0) for digit in range(MNIST.classes)])


def most_doubtful(logits: Tensor, count: int) -> Tensor:
    """(count,) the places of the images whose distribution at T=1 has the most entropy, most first."""
    return entropy(soft_targets(logits, 1.0)).topk(min(count, len(logits))).indices
