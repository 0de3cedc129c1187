"""What a model is and how well it does: parameters, bytes, MACs, accuracy, fidelity, calibration. See kd.metrics.latency for latency."""

from __future__ import annotations

from typing import Any

import torch
from scipy.stats import binomtest
from torch import Tensor


def scores(logits: Tensor, labels: Tensor, teacher_logits: Tensor) -> dict[str, float | int]:
    """Accuracy and fidelity of logits (N, 10).

    ``test_accuracy``: share right. ``test_errors``: how many wrong. ``agreement``:
    share of images given the teacher's class, right or wrong (Stanton et al. 2021,
    arXiv 2106.05945, section 3). ``kl``: mean KL(teacher || student) at T=1, nats.
    """
    guess = logits.argmax(1)
    return {
        "test_accuracy": (guess == labels).double().mean().item(),
        "test_errors": int((guess != labels).sum()),
        **fidelity(logits, teacher_logits),
    }


def fidelity(logits: Tensor, teacher_logits: Tensor) -> dict[str, float]:
    """``agreement`` and ``kl`` as in scores()."""
    teacher = teacher_logits.log_softmax(1)
    return {
        "agreement": (logits.argmax(1) == teacher_logits.argmax(1)).double().mean().item(),
        "kl": (teacher.exp() * (teacher - logits.log_softmax(1))).sum(1).mean().item(),
    }


BINS = 15


def reliability(logits: Tensor, labels: Tensor, bins: int = BINS) -> Tensor:
    """(bins, 3) of images grouped by their highest probability, in even steps: how many, its mean, and the share right.

    Mean and share are NaN where there are none. Source: Guo et al. 2017 (arXiv 1706.04599), section 2.
    """
    confidence, guess = logits.double().softmax(1).max(1)
    place = (confidence * bins).long().clamp(0, bins - 1)  # below 0 only where logits are no numbers
    count = torch.bincount(place, minlength=bins).double()
    sure = torch.bincount(place, confidence, minlength=bins) / count
    right = torch.bincount(place, (guess == labels).double(), minlength=bins) / count
    return torch.stack([count, sure, right], 1)


def distance(groups: Tensor) -> float:
    """How far the highest probability is from the share right, mean over the images of reliability()'s groups.

    This is the expected calibration error. Source: Guo et al. 2017 (arXiv 1706.04599), equation 3.
    """
    count, sure, right = groups.unbind(1)
    return ((sure - right).abs().nan_to_num() * count).sum().item() / count.sum().item()


def ece(logits: Tensor, labels: Tensor, bins: int = BINS) -> float:
    """The expected calibration error of logits (N, 10); labels (N,)."""
    return distance(reliability(logits, labels, bins))


def interval(right: int, count: int) -> list[float]:
    """The 95% confidence interval of an accuracy of ``right`` in ``count``, by Wilson's method."""
    found = binomtest(right, count).proportion_ci(0.95, "wilson")
    return [found.low, found.high]


def quality(logits: Tensor, labels: Tensor, teacher_logits: Tensor) -> dict[str, Any]:
    """All that is told of a network's answers: logits and teacher_logits (N, 10), labels (N,).

    As scores(), with ``interval``, the accuracy's 95% confidence interval by Wilson's
    method; ``confusion``, (10, 10) counts of what was said of each digit; ``errors_by_class``
    (10,); and ``ece``.
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
