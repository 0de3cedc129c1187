"""Measure accuracy, fidelity and calibration from logits."""

from __future__ import annotations

from typing import Any

import torch
from scipy.stats import binomtest
from torch import Tensor


def scores(logits: Tensor, labels: Tensor, teacher_logits: Tensor) -> dict[str, float | int]:
    """Return accuracy and fidelity of logits, (N, 10), for labels, (N,), and teacher logits, (N, 10).

    ``test_accuracy`` is the share of correct predictions, ``test_errors`` the number of wrong ones. See
    fidelity() for ``agreement`` and ``kl``.
    """
    guess = logits.argmax(1)
    return {
        "test_accuracy": (guess == labels).double().mean().item(),
        "test_errors": int((guess != labels).sum()),
        **fidelity(logits, teacher_logits),
    }


def fidelity(logits: Tensor, teacher_logits: Tensor) -> dict[str, float]:
    """Return how closely logits, (N, 10), follow those of the teacher, (N, 10).

    ``agreement`` is the share of images for which both predict the same class, right or wrong; ``kl`` is the
    mean KL(teacher || student) at T=1 in nats. Source: Stanton et al. 2021 (arXiv 2106.05945), section 3.
    """
    teacher = teacher_logits.log_softmax(1)
    return {
        "agreement": (logits.argmax(1) == teacher_logits.argmax(1)).double().mean().item(),
        "kl": (teacher.exp() * (teacher - logits.log_softmax(1))).sum(1).mean().item(),
    }


BINS = 15


def reliability(logits: Tensor, labels: Tensor, bins: int = BINS) -> Tensor:
    """Return a reliability diagram, (bins, 3): images per bin, mean confidence and accuracy.

    Confidence is the highest probability; bins are equally wide. Mean confidence and accuracy of an empty
    bin are NaN. Source: Guo et al. 2017 (arXiv 1706.04599), section 2.
    """
    confidence, guess = logits.double().softmax(1).max(1)
    place = (confidence * bins).long().clamp(0, bins - 1)  # below 0 only for NaN logits
    count = torch.bincount(place, minlength=bins).double()
    sure = torch.bincount(place, confidence, minlength=bins) / count
    right = torch.bincount(place, (guess == labels).double(), minlength=bins) / count
    return torch.stack([count, sure, right], 1)


def distance(groups: Tensor) -> float:
    """Return the expected calibration error, from 0 to 1, of the bins of reliability(), (bins, 3).

    It is the mean over images of the gap between confidence and accuracy of their bin.
    Source: Guo et al. 2017 (arXiv 1706.04599), equation 3.
    """
    count, sure, right = groups.unbind(1)
    return ((sure - right).abs().nan_to_num() * count).sum().item() / count.sum().item()


def ece(logits: Tensor, labels: Tensor, bins: int = BINS) -> float:
    """Return the expected calibration error, from 0 to 1, of logits, (N, 10), for labels, (N,)."""
    return distance(reliability(logits, labels, bins))


def interval(right: int, count: int) -> list[float]:
    """Return Wilson's 95% confidence interval, [low, high], of the accuracy ``right`` / ``count``."""
    found = binomtest(right, count).proportion_ci(0.95, "wilson")
    return [found.low, found.high]


def quality(logits: Tensor, labels: Tensor, teacher_logits: Tensor) -> dict[str, Any]:
    """Return all measures of logits, (N, 10), for labels, (N,), and teacher logits, (N, 10).

    In addition to scores(): ``interval``, Wilson's 95% confidence interval of the accuracy; ``confusion``,
    (10, 10) counts with one row per label and one column per prediction; ``errors_by_class``, (10,); and
    ``ece``.
    """
    guess = logits.argmax(1)
    classes = logits.shape[1]
    confusion = torch.bincount(labels * classes + guess, minlength=classes**2).view(classes, classes)
    return {
        **scores(logits, labels, teacher_logits),
        "interval": interval(int((guess == labels).sum()), len(labels)),
        "confusion": confusion.tolist(),
        "errors_by_class": (confusion.sum(1) - confusion.diag()).tolist(),
        "ece": ece(logits, labels),
    }
