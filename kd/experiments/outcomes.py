"""The outcomes of trainings that have ended, as tensors of a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def to_tensors(name: str, outcomes: Sequence[Mapping[str, float]]) -> dict[str, Tensor]:
    """Return outcomes by column: "<name>.<key>" -> (N,) float64, NaN where an outcome has no such key."""
    keys = dict.fromkeys(key for outcome in outcomes for key in outcome)
    return {
        f"{name}.{key}": torch.tensor(
            [outcome.get(key, math.nan) for outcome in outcomes], dtype=torch.float64
        )
        for key in keys
    }


def from_tensors(name: str, state: Mapping[str, Tensor]) -> list[dict[str, float]]:
    """Return the outcomes that to_tensors() wrote under the same name; other tensors are ignored."""
    columns = {
        key.removeprefix(f"{name}."): value.tolist()
        for key, value in state.items()
        if key.startswith(f"{name}.")
    }
    rows = [dict(zip(columns, values)) for values in zip(*columns.values())]
    return [{key: value for key, value in row.items() if not math.isnan(value)} for row in rows]
