"""Latencies by architecture: one for all runs, compared only if they are clear, with the time they take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kd.metrics.latency import BATCHES, ROUNDS, thread_counts
from kd.metrics.size import network_size
from kd.models import registry

#: A speedup is wide if the highest value in its range is this many times the lowest.
WIDE = 1.5
#: For the expected duration, measured on one core of a desktop processor: multiplications per second of
#: small networks, seconds of a call besides them, and seconds to export a network to ONNX.
MACS, CALL, EXPORT = 1.5e10, 5e-5, 1.0
FORMS = 4  # forms of a network with convolutions that are tried


@dataclass(frozen=True)
class Speedup:
    """How many times as fast one network is as another: of the medians, and its range.

    The range goes from the quotient of one's first and the other's third quartile to the reverse, with
    quartiles half an interquartile range from the median.
    """

    median: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        """Return whether the range is narrow and on one side of 1."""
        return self.low > 0 and self.high <= WIDE * self.low and not self.low <= 1 <= self.high


def speedup(fast: Mapping[str, float], slow: Mapping[str, float]) -> Speedup:
    """Return how many times as fast the first of two measured latencies is."""
    return Speedup(
        slow["median"] / fast["median"],
        max(0.0, slow["median"] - slow["iqr"] / 2) / (fast["median"] + fast["iqr"] / 2),
        (slow["median"] + slow["iqr"] / 2) / max(1e-9, fast["median"] - fast["iqr"] / 2),
    )


def unified(measured_runs: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the measures of runs, by id, with one latency for each architecture on each machine: the latest.

    Networks of one architecture take the same time, whatever their weights. ``latency_when`` of each network
    says when that latency was measured.
    """
    latest: dict[tuple[str, str], tuple[str, list[Any]]] = {}
    for measures in measured_runs.values():
        for model in measures["models"].values():
            key = measures["machine"], model["architecture"]
            if key not in latest or measures["when"] > latest[key][0]:
                latest[key] = measures["when"], model["latency"]
    result = {}
    for id, measures in measured_runs.items():
        models = {}
        for role, model in measures["models"].items():
            when, rows = latest[measures["machine"], model["architecture"]]
            models[role] = {**model, "latency": rows, "latency_when": when}
        result[id] = {**measures, "models": models}
    return result


def expected_seconds(architectures: Iterable[str], evaluated: Iterable[str], images: int) -> float:
    """Return about how many seconds a measurement takes.

    Args:
        architectures: of the networks whose latency is measured; each counts once.
        evaluated: of the networks that classify the test images first.
        images: in the test set.
    """
    total = sum(images * network_size(architecture).macs / MACS for architecture in evaluated)
    for architecture in set(architectures):
        shapes = [shape for part in architecture.split("+") for shape in registry.feature_shapes(part)]
        forms = FORMS if any(len(shape) == 3 for shape in shapes) else 0
        total += EXPORT
        for batch in BATCHES:
            call = CALL + batch * network_size(architecture).macs / MACS
            main, trial = 9 * call + ROUNDS * max(call, 0.01), 9 * call + 3 * max(call, 0.005)
            total += len(thread_counts()) * (2 * main + forms * trial)
    return total


def duration(seconds: float) -> str:
    """Return a duration as people say it, such as "40 seconds" or "3 minutes"."""
    if seconds < 100:
        return f"{max(5, 5 * round(seconds / 5))} seconds"
    return f"{round(seconds / 60)} minutes"
