"""Prepare the transfer set: the images and labels that a student learns from."""

from __future__ import annotations

import dataclasses

import torch

from kd.data.digits import UNLABELLED, Digits
from kd.errors import UserError


def without(digits: Digits, omitted: str) -> Digits:
    """Return the images of all classes but ``omitted``, such as "3" or "0169"."""
    out = torch.tensor([int(digit) for digit in omitted], dtype=torch.int64, device=digits.labels.device)
    return digits.take(~torch.isin(digits.labels, out)) if omitted else digits


def with_labels(digits: Digits, count: int, generator: torch.Generator) -> Digits:
    """Return the same images with only ``count`` labels, spread evenly over the classes.

    The other images get UNLABELLED. With the same generator seed, a larger ``count`` keeps the labels
    of a smaller one.

    Raises:
        UserError: there are fewer than ``count`` images.
    """
    if count > len(digits):
        raise UserError(
            f"Only {len(digits):,} images are available for {count:,} labels. Choose fewer labels."
        )
    order = torch.randperm(len(digits), generator=generator)
    classes = digits.labels.cpu()[order]
    # Rank each image within its class: the lowest ranks then take the classes in turn.
    rank = torch.zeros_like(classes)
    for label in classes.unique():
        rank[classes == label] = torch.arange(int((classes == label).sum()))
    kept = order[rank.argsort(stable=True)[:count]].to(digits.labels.device)
    labels = torch.full_like(digits.labels, UNLABELLED)
    labels[kept] = digits.labels[kept]
    return dataclasses.replace(digits, labels=labels)


def with_wrong_labels(digits: Digits, share: float, generator: torch.Generator) -> Digits:
    """Return the same images with a ``share`` of the labels wrong.

    Each wrong label is drawn uniformly from the other classes that occur. Images without a label
    stay unlabelled.
    """
    known = (digits.labels != UNLABELLED).nonzero().squeeze(1)
    wrong = known[
        torch.randperm(len(known), generator=generator)[: round(share * len(known))].to(known.device)
    ]
    classes, positions = digits.labels[known].unique(return_inverse=True)
    position = torch.zeros_like(digits.labels)
    position[known] = positions
    step = torch.randint(1, max(2, len(classes)), (len(wrong),), generator=generator).to(known.device)
    labels = digits.labels.clone()
    labels[wrong] = classes[(position[wrong] + step) % len(classes)]
    return dataclasses.replace(digits, labels=labels)
