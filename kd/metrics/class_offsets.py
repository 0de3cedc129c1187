"""Compute logit offsets for classes that were missing from a student's training images.

A student that never saw a 3 learns from the teacher what a 3 looks like, but also that 3s never occur.
Raising the logit of class 3, as if by a larger bias, corrects the second (Hinton, Vinyals & Dean 2015,
arXiv 1503.02531, section 3).
"""

from __future__ import annotations

import torch
from torch import Tensor

STEPS = 500
CLOSE = 1e-4  # relative tolerance


def by_frequency(logits: Tensor, omitted: str, frequencies: Tensor) -> Tensor:
    """Return offsets, (10,), that make the mean probability of each omitted class equal its frequency.

    The offsets of the omitted classes are adjusted by iterative scaling at T=1, for at most STEPS steps; the
    others stay at 0. No labels are used.

    Args:
        logits: (N, 10), of images of all classes.
        omitted: the omitted digits, such as "3" or "0169".
        frequencies: (10,), each class's share of the images.
    """
    out = [int(digit) for digit in omitted]
    offsets = torch.zeros(logits.shape[1], dtype=torch.float64)
    logits, wanted = logits.double().cpu(), frequencies.double().cpu()[out]
    if not out:
        return offsets
    for _ in range(STEPS):
        # Iterative scaling: each step moves every class closer to its frequency.
        factor = wanted / (logits + offsets).softmax(1).mean(0)[out]
        offsets[out] += factor.log()
        if ((factor - 1).abs() < CLOSE).all():
            break
    return offsets


def by_labels(logits: Tensor, labels: Tensor, omitted: str, reach: float = 20.0, steps: int = 401) -> Tensor:
    """Return offsets, (10,): one common value for the omitted classes, with the fewest errors on the images.

    The paper chooses the offset in this way. On test images it is tuned on the test set; say so with the
    result.

    Args:
        logits: (N, 10).
        labels: (N,).
        omitted: the omitted digits, such as "3" or "0169".
        reach: the largest absolute offset to try.
        steps: the number of evenly spaced offsets to try, from -reach to reach.
    """
    logits, labels = logits.double().cpu(), labels.cpu()
    mask = torch.zeros(logits.shape[1], dtype=torch.float64)
    mask[[int(digit) for digit in omitted]] = 1
    inside = logits.masked_fill(mask.bool(), -torch.inf).max(1)  # the best class that was not omitted
    outside = logits.masked_fill(~mask.bool(), -torch.inf).max(1)
    right_inside, right_outside = inside.indices == labels, outside.indices == labels
    tried = torch.linspace(-reach, reach, steps, dtype=torch.float64)
    errors = [
        int((~torch.where(outside.values + offset > inside.values, right_outside, right_inside)).sum())
        for offset in tried
    ]
    return mask * tried[errors.index(min(errors))]
