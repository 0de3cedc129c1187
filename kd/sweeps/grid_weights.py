"""The networks that a sweep keeps, so that its cells can be opened: which, how many, and in which file of the run."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from kd.config.distil import DistilConfig
from kd.errors import UserError
from kd.metrics.size import network_size
from kd.models import registry
from kd.store import runs
from kd.training.loop import Training

#: Bytes, at most, that a sweep's networks may take, as they are trained: in float32. Each checkpoint writes them all, which must stay
#: well under a second, and 5 GB, what a server stores by default, must hold dozens of sweeps. It is 680 networks mlp-30 or 24 mlp-800.
MAX_BYTES = 64_000_000
FILE = "cells"  # .safetensors, in the folder of the run

#: "12.1.weight" -> the weight called 1.weight of cell 12.
Weights = dict[str, Tensor]


class Cell(Protocol):
    """What is read of a grid.Cell."""

    index: int
    config: DistilConfig


def kept(cells: Sequence[Cell]) -> frozenset[int]:
    """Which of a sweep's cells leave their networks: all where they are small enough together, else those of the first seed, else none."""
    for chosen in (cells, [cell for cell in cells if cell.config.seed == cells[0].config.seed]):
        if sum(network_size(cell.config.student).bytes for cell in chosen) <= MAX_BYTES:
            return frozenset(cell.index for cell in chosen)
    return frozenset()


def bound(cells: Sequence[Cell]) -> str:
    """A sentence on what is not kept of a sweep, and why; empty where all is."""
    count, size = len(kept(cells)), sum(network_size(cell.config.student).bytes for cell in cells)
    if count == len(cells):
        return ""
    why = f"Its {len(cells):,} networks take {size / 1e6:,.0f} MB, and a sweep keeps at most {MAX_BYTES / 1e6:.0f}"
    return (
        f"{why}: those of seed {cells[0].config.seed}."
        if count
        else f"{why}, which one seed alone exceeds: none."
    )


def of(cells: Sequence[Cell], training: Training, kept: Collection[int]) -> Weights:
    """The weights that are kept of the cells that trained together. Those that went out of bounds are not."""
    return {
        f"{cell.index}.{name}": value.detach().cpu().clone()
        for cell, learner in zip(cells, training.learners)
        if cell.index in kept and sound(learner.model)
        for name, value in learner.model.state_dict().items()
    }


def sound(model: nn.Module) -> bool:
    """Whether all its weights are finite numbers."""
    return all(bool(value.isfinite().all()) for value in model.state_dict().values())


def held(run: runs.Run) -> frozenset[int]:
    """The cells whose networks a stored sweep holds. None in one that was stored before networks were kept, or whose file is damaged."""
    return frozenset(int(name.partition(".")[0]) for name in _names(run))


def read(run: runs.Run) -> Weights:
    """All weights that a stored sweep holds."""
    return _tensors(run, _names(run))


def load(run: runs.Run, cell: Cell) -> nn.Module:
    """The network of one cell, in eval mode.

    Raises:
        UserError: it was not kept, or is damaged.
    """
    start = f"{cell.index}."
    found = _tensors(run, [name for name in _names(run) if name.startswith(start)])
    if not found:
        raise UserError(
            f"{run.name} did not keep the network of this cell; open the cell's settings instead."
        )
    return registry.with_weights(
        cell.config.student,
        {name.removeprefix(start): value for name, value in found.items()},
        f"{FILE}.safetensors",
    )


def _names(run: runs.Run) -> list[str]:
    try:
        with safe_open(run.file(f"{FILE}.safetensors"), "pt") as file:
            return [name for name in file.keys() if name.partition(".")[0].isdecimal()]
    except (UserError, SafetensorError, OSError, ValueError):
        return []


def _tensors(run: runs.Run, names: Collection[str]) -> Weights:
    if not names:
        return {}
    try:
        with safe_open(run.file(f"{FILE}.safetensors"), "pt") as file:
            return {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, ValueError, RuntimeError):
        raise UserError(
            f"{FILE}.safetensors of {run.name} is damaged and cannot be read; open the cell's settings instead."
        ) from None
