"""The transfer set: the images and labels that a student learns from."""

from __future__ import annotations

import dataclasses

import torch

from kd.data.digits import UNLABELLED, Digits
from kd.errors import UserError


def without(digits: Digits, omitted: str) -> Digits:
    """The digits that are none of ``omitted``, such as "3" or "0169"."""
    out = torch.tensor([int(digit) for digit in omitted], dtype=torch.int64, device=digits.labels.device)
    return digits.take(~torch.isin(digits.labels, out)) if omitted else digits


def with_labels(digits: Digits, count: int, generator: torch.Generator) -> Digits:
    """The same images with all labels but ``count`` replaced by UNLABELLED; as many of each class as can be.

    Raises:
        UserError: there are fewer than ``count`` of them.
    """
    if count > len(digits):
        raise UserError(f"There are only {len(digits):,} images to put {count:,} labels on; ask for fewer.")
    order = torch.randperm(len(digits), generator=generator)
    classes = digits.labels.cpu()[order]
    # Each image's rank within its class: taking the lowest ranks takes the classes in turn.
    rank = torch.zeros_like(classes)
    for label in classes.unique():
        rank[classes == label] = torch.arange(int((classes == label).sum()))
    kept = order[rank.argsort(stable=True)[:count]].to(digits.labels.device)
    labels = torch.full_like(digits.labels, UNLABELLED)
    labels[kept] = digits.labels[kept]
    return dataclasses.replace(digits, labels=labels)


def with_wrong_labels(digits: Digits, share: float, generator: torch.Generator) -> Digits:
    """The same images, of whose labels the ``share`` says another digit, chosen evenly among those that are there.

    Images without a label stay without one.
    """
    known = (digits.labels != UNLABELLED).nonzero().squeeze(1)
    wrong = known[
        torch.randperm(len(known), generator=generator)[: round(share * len(known))].to(known.device)
    ]
    classes, places = digits.labels[known].unique(return_inverse=True)
    place = torch.zeros_like(digits.labels)
    place[known] = places
    step = torch.randint(1, max(2, len(classes)), (len(wrong),), generator=generator).to(known.device)
    labels = digits.labels.clone()
    labels[wrong] = classes[(place[wrong] + step) % len(classes)]
    return dataclasses.replace(digits, labels=labels)
