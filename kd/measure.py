"""What a model costs and how well it does: parameters, bytes, MACs, latency, accuracy, fidelity."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from kd import models


@dataclass(frozen=True)
class Size:
    """``parameters``: weights that were learned. ``bytes``: all that must be stored, as float32.
    ``macs``: multiplications with addition to classify one image."""

    parameters: int
    bytes: int
    macs: int


@functools.lru_cache(maxsize=256)
def size(architecture: str) -> Size:
    """The size of an architecture, counted on a network without weights."""
    model = models.skeleton(architecture).eval()
    with FlopCounterMode(display=False) as counter, torch.device("meta"):
        model(torch.zeros(1, *models.INPUT_SHAPE))
    return Size(
        parameters=sum(p.numel() for p in model.parameters()),
        bytes=sum(v.numel() * v.element_size() for v in model.state_dict().values()),
        macs=counter.get_total_flops() // 2,
    )


@dataclass(frozen=True)
class Latency:
    """Seconds to classify one batch: the median and the interquartile range of ``rounds`` timings."""

    median: float
    iqr: float
    rounds: int


def latency(model: nn.Module, batch: int = 1, rounds: int = 25, seconds: float = 0.01) -> Latency:
    """The time of ``model`` on ``batch`` images, warmed up: ``rounds`` timings of about ``seconds`` each."""
    from torch.utils import benchmark  # slow to import, and loud where there is no GPU

    inputs = torch.zeros(batch, *models.INPUT_SHAPE, device=next(model.parameters()).device)
    with torch.inference_mode():
        timer = benchmark.Timer("model(inputs)", globals={"model": model, "inputs": inputs}, num_threads=torch.get_num_threads())
        once = timer.timeit(20).mean
        calls = max(1, round(seconds / once))
        together = benchmark.Measurement.merge(timer.timeit(calls) for _ in range(rounds))[0]
    return Latency(together.median, together.iqr, rounds)


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
