"""The cells of a sweep: which students it trains, and which of them train together.

A *cell* is one student, or the control of those with the same network, labels and seed. Cells that
see the same batches train in a *group*, as one batched computation. Cells with different seeds
cannot share a group, because they see different batches; so the standard deviation over the seeds
includes everything that is random.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from dataclasses import dataclass
from typing import Any

from kd.config.base import Config
from kd.config.distil import DistilConfig
from kd.config.sweep import AXES, SweepConfig
from kd.metrics import size
from kd.models import registry
from kd.objectives import METHODS
from kd.training import forward_backward

#: Largest number of weights in a group, over all its cells: with their gradients and the optimizer's
#: moments they should stay near the cache.
GROUP_WEIGHTS = 1_000_000


@dataclass(frozen=True)
class SweepCell:
    """One training of a sweep, a student or a control.

    ``config`` is what `kd distil` would train it with; a control has soft weight 0.
    """

    index: int
    config: DistilConfig
    control: bool

    @property
    def settings(self) -> dict[str, Any]:
        """Return the cell's values on the axes that it has, and its seed. A control has no method."""
        read = {name: getattr(self.config, name) for name in AXES if self.config.reads(name)}
        if self.control:
            read = {"student": read["student"], "labels": read["labels"], "soft_weight": 0.0}
        return read | {"seed": self.config.seed, "control": self.control}


@dataclass(frozen=True)
class Group:
    """Cells that train together on the same batches."""

    index: int
    cells: tuple[SweepCell, ...]


@functools.lru_cache(maxsize=16)  # pages ask at every tick, and the largest sweeps take a while to check
def cells(config: SweepConfig) -> tuple[SweepCell, ...]:
    """Return all cells: seed by seed, and each control before its students."""
    common = {spec.name: getattr(config, spec.name) for spec in dataclasses.fields(Config)}
    common["teacher"] = config.teacher
    result: list[SweepCell] = []
    seeds = range(config.seed, config.seed + config.seeds)
    for seed, student, labels in itertools.product(seeds, config.values("student"), config.values("labels")):
        shared = common | {"student": student, "labels": labels, "seed": seed}
        result.append(SweepCell(len(result), DistilConfig(**shared, soft_weight=0.0), True))
        for settings in taught(config):
            result.append(SweepCell(len(result), DistilConfig(**shared, **settings), False))
    return tuple(result)


def taught(config: SweepConfig) -> list[dict[str, Any]]:
    """Return the settings of all students but the controls: method, and what it reads of the other axes."""
    combinations: dict[tuple, dict[str, Any]] = {}
    for method, temperature, soft_weight in itertools.product(
        config.values("method"), config.values("temperature"), config.values("soft_weight")
    ):
        read = {
            name: value
            for name, value in [("temperature", temperature), ("soft_weight", soft_weight)]
            if name in METHODS[method].settings
        }
        if read.get("soft_weight") != 0:
            combinations[(method, *read.items())] = {"method": method} | read
    return list(combinations.values())


@functools.lru_cache(maxsize=16)
def groups(config: SweepConfig) -> tuple[Group, ...]:
    """Return the cells in groups.

    A cell that cannot be batched, because it is not an MLP or its method uses hidden layers, is a
    group of its own.
    """
    parts: list[list[SweepCell]] = []
    for _, same in itertools.groupby(
        cells(config), lambda cell: (cell.config.seed, cell.config.student, cell.config.labels)
    ):
        together: list[SweepCell] = []
        alone: list[SweepCell] = []
        for cell in same:
            (together if batchable(cell) else alone).append(cell)
        if together:
            most = max(1, GROUP_WEIGHTS // size.network_size(together[0].config.student).parameters)
            even = math.ceil(len(together) / math.ceil(len(together) / most))
            parts += [together[i : i + even] for i in range(0, len(together), even)]
        parts += [[cell] for cell in alone]
    return tuple(Group(i, tuple(part)) for i, part in enumerate(parts))


def group_of(config: SweepConfig, cell: SweepCell) -> Group:
    """Return the group that a cell belongs to."""
    return next(group for group in groups(config) if any(other.index == cell.index for other in group.cells))


def batchable(cell: SweepCell) -> bool:
    """Return whether a cell can train in a batched computation with others."""
    compares_layers = not cell.control and METHODS[cell.config.method].feature_view
    return not compares_layers and _multilayer_perceptron(cell.config.student)


@functools.lru_cache(maxsize=256)
def _multilayer_perceptron(student: str) -> bool:
    return forward_backward.same_perceptrons([registry.skeleton(student)])
