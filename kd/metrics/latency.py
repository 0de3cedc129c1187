"""Measure the latency of networks, each in its fastest form, in alternating rounds."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from kd.data.task import MNIST

BATCHES = (1, 32, 256)
ROUNDS = 15
PYTORCH, ONNX = "PyTorch", "ONNX Runtime"
Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Latency:
    """Seconds to classify one batch: median and interquartile range of ``rounds`` timings."""

    median: float
    iqr: float
    rounds: int


def alternating(
    works: Mapping[Name, Callable[[], Any]],
    threads: int,
    rounds: int = ROUNDS,
    seconds: float = 0.01,
    between: Callable[[], Any] = lambda: None,
) -> dict[Name, Latency]:
    """Return the latency of one call of each of ``works``, after a warm-up.

    Args:
        works: the functions to time, by name.
        threads: PyTorch's threads during the timing.
        rounds: the number of rounds; in each one, all functions are timed in turn, so that a slow moment
            affects all of them.
        seconds: the approximate duration of a turn.
        between: called before each round, while nothing is timed.
    """
    from torch.utils import benchmark  # slow to import; warns without a GPU

    with torch.inference_mode():
        timers = {
            name: benchmark.Timer("work()", globals={"work": work}, num_threads=threads)
            for name, work in works.items()
        }
        calls = {name: max(1, round(seconds / _least(timer))) for name, timer in timers.items()}
        taken: dict[Name, list[Any]] = {name: [] for name in works}
        for _ in range(rounds):
            between()
            for name, timer in timers.items():
                taken[name].append(timer.timeit(calls[name]))
    merged = {name: benchmark.Measurement.merge(measurements)[0] for name, measurements in taken.items()}
    return {name: Latency(found.median, found.iqr, rounds) for name, found in merged.items()}


def _least(timer: Any) -> float:
    """Return the approximate seconds per call; this also warms up."""
    return min(timer.timeit(3).mean for _ in range(3))


def measure_latency(model: nn.Module, batch: int = 1, rounds: int = 25, seconds: float = 0.01) -> Latency:
    """Return the latency of ``model``, unchanged, on ``batch`` images with all threads."""
    inputs = torch.zeros(batch, *MNIST.image_shape, device=_device(model))
    return alternating({"model": lambda: model(inputs)}, torch.get_num_threads(), rounds, seconds)["model"]


def folded(model: nn.Module) -> nn.Module:
    """Return ``model`` in eval mode with batch normalization folded into convolutions, without dropout.

    The outputs are equal up to rounding. A network that is not a Sequential is returned unchanged.
    """
    if not isinstance(model, nn.Sequential):
        return model
    layers: list[nn.Module] = []
    for layer in model:
        if isinstance(layer, nn.BatchNorm2d) and layers and isinstance(layers[-1], nn.Conv2d):
            layers[-1] = fuse_conv_bn_eval(layers[-1], layer)
        elif not isinstance(layer, nn.Dropout):
            layers.append(layer)
    return nn.Sequential(*layers).eval()


def forms(model: nn.Module) -> dict[str, tuple[nn.Module, torch.memory_format]]:
    """Return the forms of ``model`` to try, by name: with convolutions, both memory layouts and folding."""
    if not any(isinstance(layer, nn.Conv2d) for layer in model.modules()):
        return {"as it is": (model, torch.contiguous_format)}
    found = {}
    for layout, name in ((torch.channels_last, "channels last"), (torch.contiguous_format, "channels first")):
        found[name] = (_laid_out(model, layout), layout)
        if any(isinstance(layer, nn.BatchNorm2d) for layer in model.modules()):
            found[f"{name}, normalization folded"] = (_laid_out(folded(model), layout), layout)
    return found


def _laid_out(model: nn.Module, layout: torch.memory_format) -> nn.Module:
    return copy.deepcopy(model).to(memory_format=layout)


def compare(
    networks: Mapping[str, nn.Module],
    batches: tuple[int, ...] = BATCHES,
    threads: tuple[int, ...] | None = None,
    rounds: int = ROUNDS,
    seconds: float = 0.01,
    exported: Mapping[str, Callable[[int], Callable[[np.ndarray], Any]]] | None = None,
    between: Callable[[], Any] = lambda: None,
) -> dict[str, list[dict[str, Any]]]:
    """Return the latency of each network for each batch size and number of threads, in its fastest form.

    Args:
        networks: the networks by name.
        batches: batch sizes in images.
        threads: numbers of threads; by default 1 and all.
        rounds: the number of rounds; see alternating().
        seconds: the approximate duration of a turn.
        exported: for some of the networks, a function from a number of threads to a runner of the ONNX
            file on pixels, (N, 28, 28) uint8. Runners are timed in the same rounds.
        between: called before each round, and for each network, while nothing is timed.

    Returns:
        name -> rows with batch, threads, runtime, median and iqr in seconds, images_per_second and form.
    """
    threads = threads or thread_counts()
    ready = {(name, count): make(count) for name, make in (exported or {}).items() for count in threads}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in networks}
    for batch in batches:
        for count in threads:
            works, chosen = {}, {}
            for name, model in networks.items():
                between()
                tried = {form: _work(*how, batch) for form, how in forms(model.eval()).items()}
                times = alternating(tried, count, rounds=3, seconds=seconds / 2) if len(tried) > 1 else {}
                chosen[name] = min(tried, key=lambda form: times[form].median) if times else next(iter(tried))
                works[PYTORCH, name] = tried[chosen[name]]
                if (name, count) in ready:
                    works[ONNX, name] = functools.partial(
                        ready[name, count], np.zeros((batch, MNIST.height, MNIST.width), np.uint8)
                    )
            for (runtime, name), took in alternating(works, count, rounds, seconds, between).items():
                found[name].append(
                    {
                        "batch": batch,
                        "threads": count,
                        "runtime": runtime,
                        "median": took.median,
                        "iqr": took.iqr,
                        "images_per_second": batch / took.median,
                        "form": chosen[name] if runtime == PYTORCH else "as exported",
                    }
                )
    return found


def thread_counts() -> tuple[int, ...]:
    """Return 1 and the number of all threads."""
    return tuple(sorted({1, torch.get_num_threads()}))


def _work(model: nn.Module, layout: torch.memory_format, batch: int) -> Callable[[], Any]:
    inputs = torch.zeros(batch, *MNIST.image_shape, device=_device(model)).contiguous(memory_format=layout)
    return lambda: model(inputs)


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
