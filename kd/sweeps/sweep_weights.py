"""The networks that a sweep keeps, so that its cells can be opened: which, how many and in which file."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from kd.errors import UserError, hindrance
from kd.metrics.size import network_size
from kd.models import registry
from kd.store import runs
from kd.sweeps.sweep_cells import SweepCell
from kd.training.loop import Training

#: Largest size of a sweep's networks, in bytes of float32. Each checkpoint writes them all, which must
#: take well under a second, and 5 GB, which a server stores by default, must hold dozens of sweeps.
#: This is 680 networks of mlp-30 or 24 of mlp-800.
MAX_BYTES = 64_000_000
FILE = "cells"  # .safetensors, in the folder of the run

#: "12.1.weight" -> the weight called 1.weight of cell 12.
Weights = dict[str, Tensor]


def kept(cells: Sequence[SweepCell]) -> frozenset[int]:
    """Return the indices of the cells whose networks are kept.

    All if they are small enough together; otherwise those of the first seed if they are; otherwise none.
    """
    for chosen in (cells, [cell for cell in cells if cell.config.seed == cells[0].config.seed]):
        if sum(network_size(cell.config.student).bytes for cell in chosen) <= MAX_BYTES:
            return frozenset(cell.index for cell in chosen)
    return frozenset()


def bound(cells: Sequence[SweepCell]) -> str:
    """Say in a sentence which networks are not kept, and why; return "" if all are kept."""
    count, size = len(kept(cells)), sum(network_size(cell.config.student).bytes for cell in cells)
    if count == len(cells):
        return ""
    reason = (
        f"Its {len(cells):,} networks take {size / 1e6:,.0f} MB, and a sweep keeps at most "
        f"{MAX_BYTES / 1e6:.0f} MB"
    )
    if count:
        return f"{reason}: those of seed {cells[0].config.seed}."
    return f"{reason}, which one seed alone exceeds: none are kept."


def of(cells: Sequence[SweepCell], training: Training, kept: Collection[int]) -> Weights:
    """Return the kept weights of cells that trained together; those of diverged cells are not kept."""
    return {
        f"{cell.index}.{name}": value.detach().cpu().clone()
        for cell, learner in zip(cells, training.learners)
        if cell.index in kept and finite(learner.model)
        for name, value in learner.model.state_dict().items()
    }


def finite(model: nn.Module) -> bool:
    """Return whether all weights are finite numbers."""
    return all(bool(value.isfinite().all()) for value in model.state_dict().values())


def held(run: runs.Run) -> frozenset[int]:
    """Return the indices of the cells whose networks a stored sweep has.

    Empty if the sweep was stored before networks were kept, or if its file is damaged.
    """
    return frozenset(int(name.partition(".")[0]) for name in _names(run))


def read(run: runs.Run) -> Weights:
    """Return all weights that a stored sweep has."""
    return _tensors(run, _names(run))


def load(run: runs.Run, cell: SweepCell) -> nn.Module:
    """Load the network of one cell, in eval mode.

    Raises:
        UserError: the network was not kept or is damaged.
    """
    prefix = f"{cell.index}."
    weights = _tensors(run, [name for name in _names(run) if name.startswith(prefix)])
    if not weights:
        raise UserError(
            f"{run.name} did not keep the network of this cell. Open the cell's settings instead."
        )
    return registry.with_weights(
        cell.config.student,
        {name.removeprefix(prefix): value for name, value in weights.items()},
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
        path = run.file(f"{FILE}.safetensors")
        with open(path, "rb"), safe_open(path, "pt") as file:  # safetensors hides the reason
            return {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        if why := hindrance(error):
            raise UserError(f"{FILE}.safetensors of {run.name} cannot be read ({why}).") from None
        raise UserError(
            f"{FILE}.safetensors of {run.name} is damaged and cannot be read. "
            "Open the cell's settings instead."
        ) from None
