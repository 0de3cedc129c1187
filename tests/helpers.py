"""Helpers for several test files."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from kd.data.digits import Mnist
from kd.models import registry
from kd.teachers.cached import CachedTeacher


def wait_until(condition: Callable[[], Any], what: str = "", seconds: float = 30.0) -> Any:
    """Poll until ``condition()`` is true and return its value; fail after ``seconds``."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"not within {seconds:g} s: {what or condition}"
        time.sleep(0.005)
    return found


def weights(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of a model's state, including buffers of batch normalization."""
    return {name: value.clone() for name, value in model.state_dict().items()}


def identical(one: nn.Module | dict, other: nn.Module | dict) -> bool:
    """Return whether two models have the same weights, bit for bit."""
    one, other = (m if isinstance(m, dict) else m.state_dict() for m in (one, other))
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def same(one: dict[str, dict], other: dict[str, dict]) -> bool:
    """Return whether two trainings left the same weights per learner, bit for bit."""
    return one.keys() == other.keys() and all(identical(one[name], other[name]) for name in one)


def small_teacher(architecture: str = "mlp-30", seed: int = 7) -> CachedTeacher:
    """Return an untrained teacher with confident outputs: its last layer is scaled by 10."""
    model = registry.build(architecture, seed)
    with torch.no_grad():
        model[-1].weight.mul_(10)
    return CachedTeacher("small", architecture, model)


def threads(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


class Given:
    """Stand in for sources.Source with data that are already loaded."""

    state = "full"
    blocked = False

    def __init__(self, mnist: Mnist):
        self._mnist = mnist
        self.messages: list[str] = []

    def mnist(self) -> Mnist:
        return self._mnist

    def wait(self, seconds: float | None = None) -> Mnist:
        return self._mnist

    def close(self) -> None:
        pass


#: What a finished run of 200 test images may have measured.
MEASURES = {
    "source": "sample",
    "seconds": 1.0,
    "test_images": 200,
    "models": {
        who: {"test_accuracy": 0.9, "test_errors": 20, "agreement": 0.9, "kl": 0.1}
        for who in ("student", "control", "teacher")
    },
}
