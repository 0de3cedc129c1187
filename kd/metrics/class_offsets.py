"""Offsets for classes that a student was never trained on.

A student that never saw a 3 has learned from the teacher what one looks like, but
also that there are none. Raising its logit of the 3, as if by a larger bias, undoes
the second (Hinton, Vinyals & Dean 2015, section 3).
"""

from __future__ import annotations

import torch
from torch import Tensor

STEPS = 500
CLOSE = 1e-4  # relative


def by_frequency(logits: Tensor, omitted: str, frequencies: Tensor) -> Tensor:
    """Offsets (10,) by which the omitted classes get the mean probability that they should have.

    The offsets of ``omitted`` are moved until each such class's mean probability at
    T=1 equals its frequency; the others stay at 0. No label is looked at.

    Args:
        logits: (N, 10) of images that have all the classes, without labels.
        omitted: digits such as "3" or "0169".
        frequencies: (10,) each class's share of the images.
    """
    out = [int(digit) for digit in omitted]
    offsets = torch.zeros(logits.shape[1], dtype=torch.float64)
    logits, wanted = logits.double().cpu(), frequencies.double().cpu()[out]
    if not out:
        return offsets
    for _ in range(STEPS):
        # Iterative scaling: each step brings every class nearer to its frequency.
        factor = wanted / (logits + offsets).softmax(1).mean(0)[out]
        offsets[out] += factor.log()
        if ((factor - 1).abs() < CLOSE).all():
            break
    return offsets


def by_labels(logits: Tensor, labels: Tensor, omitted: str, reach: float = 20.0, steps: int = 401) -> Tensor:
    """The offset, one for all of ``omitted``, with the fewest errors on labelled images, as the paper chose it.

    On test images this is a choice made on the test set, and must be said so.

    Args:
        logits: (N, 10). ``labels``: (N,).
        reach: offsets from -reach to reach are tried, in ``steps`` even steps.
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
