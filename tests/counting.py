"""A kind of run that only tests know: it counts, and learns nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from kd.config.base import Settings
from kd.config.fields import setting
from kd.config.kind import Kind, no_networks
from kd.training.loop import Record


@dataclass(frozen=True, kw_only=True)
class CountingConfig(Settings):
    """How far to count."""

    top: int = setting(10, "Top", "The number at which counting ends.", 1, 1_000_000, 1)
    step: int = setting(1, "Step", "How much each number is larger than the one before.", 1, 10, 1)

    total_epochs: ClassVar[int] = 1


class Counter:
    """Stands for a training: it counts from where it stands to the top."""

    trained: Mapping[str, nn.Module] = {}

    def __init__(self, config: CountingConfig):
        self.settings: dict[str, float] = {}
        self.step, self.steps, self._by = 0, config.top, config.step

    def records(self, due: Callable[[int], bool]) -> Iterator[Record]:
        """Yield a record for each number."""
        while self.step < self.steps:
            time.sleep(0.001)
            self.step = min(self.steps, self.step + self._by)
            done = self.step / self.steps
            yield Record(self.step, self.steps, done, self.step / 1000, 1000.0, {}, {}, {}, True)

    def state(self) -> dict[str, Tensor]:
        """Return where it stands."""
        return {"step": torch.tensor(self.step)}


class Counting:
    """The experiment of the kind."""

    reference = None
    tensors: Mapping[str, Any] = {}
    trained: Mapping[str, nn.Module] = {}
    owner: str | None = None

    def __init__(self, config: CountingConfig, mnist: Any):
        self.config, self.mnist, self.training = config, mnist, Counter(config)

    def records(
        self, due: Callable[[int], bool], state: Mapping[str, Tensor] | None = None
    ) -> Generator[Record, Any, None]:
        """Count, from the beginning or from a checkpoint's state."""
        if state is not None:
            self.training.step = int(state["step"])
        yield from self.training.records(due)

    def measures(self, last: Record | None) -> dict[str, Any]:
        """Return what is stored with the run."""
        return {
            "seconds": last.seconds if last else 0.0,
            "source": self.mnist.source,
            "test_images": len(self.mnist.test),
            "models": {},
            "counted": self.training.step,
        }


COUNTING = Kind(
    name="counting",
    config=CountingConfig,
    experiment="tests.counting:Counting",
    help="count to a number",
    default_name=lambda config: f"counting to {config.top}",
    title=lambda config, named: f"counting to {config.top} by {config.step}",
    has_teacher=False,
    models=no_networks,
    progress="counting",
)
