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
    teacher = teacher_logits.log_softmax(1)
    return {
        "test_accuracy": (guess == labels).double().mean().item(),
        "test_errors": int((guess != labels).sum()),
        "agreement": (guess == teacher_logits.argmax(1)).double().mean().item(),
        "kl": (teacher.exp() * (teacher - logits.log_softmax(1))).sum(1).mean().item(),
    }
