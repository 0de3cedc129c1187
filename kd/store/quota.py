"""Limits on the stored runs, $KD_MAX_RUNS and $KD_MAX_BYTES, and which runs to delete first.

A run that has started is always stored, so that no training is lost; the limits only keep new runs
from starting.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

from kd import paths, permissions
from kd.errors import UserError
from kd.store.runs import Run, is_id

MAX_RUNS = 500
MAX_BYTES = 5_000_000_000


@dataclass(frozen=True)
class Usage:
    """The number and size of the stored runs, and their limits."""

    runs: int
    bytes: int
    max_runs: int
    max_bytes: int

    @property
    def share(self) -> float:
        """How full the store is, from 0 to 1 or a little above."""
        return max(self.runs / self.max_runs, self.bytes / self.max_bytes)

    def __str__(self) -> str:
        megabytes, limit = self.bytes / 1e6, self.max_bytes / 1e6
        return f"{self.runs:,} of {self.max_runs:,} runs, {megabytes:,.0f} of {limit:,.0f} MB"


def usage() -> Usage:
    """Return the number of finished and unfinished runs, and the bytes of all files in their folder."""
    count = 0
    try:
        with os.scandir(paths.home()) as entries:
            count = sum(is_id(entry.name.removesuffix(".checkpoint")) for entry in entries)
    except OSError:
        pass
    return Usage(
        count, _bytes(paths.home()), _bound("KD_MAX_RUNS", MAX_RUNS), _bound("KD_MAX_BYTES", MAX_BYTES)
    )


def size(run: Run) -> int:
    """Return the bytes of a stored run."""
    return _bytes(run.folder)


def _bytes(folder: os.PathLike[str] | str) -> int:
    total = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    total += (
                        _bytes(entry.path)
                        if entry.is_dir(follow_symlinks=False)
                        else entry.stat(follow_symlinks=False).st_size
                    )
                except OSError:  # deleted meanwhile
                    continue
    except OSError:
        pass
    return total


def _bound(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 1):
        raise UserError(
            f"{name} must be at least 1 (got {text!r}). Unset it to use the default, {default:,}."
        )
    return int(value)


def check(pending: int = 0) -> None:
    """Check that there is room for another run.

    Args:
        pending: the number of runs under way, each of which will be stored.

    Raises:
        UserError: the store is full.
    """
    now = usage()
    if now.runs + pending >= now.max_runs or now.bytes >= now.max_bytes:
        under_way = f" and {pending} under way" if pending else ""
        raise UserError(
            f"The store is full ({now}{under_way}), so no new run can start; nothing is lost. "
            "Delete runs on the Runs page, which suggests the oldest, "
            "or ask whoever runs this server to raise KD_MAX_RUNS or KD_MAX_BYTES."
        )


def removable(stored: Sequence[Run], owner: str | None) -> list[Run]:
    """Return the unpinned runs that this visitor can delete, the oldest first.

    Args:
        owner: the digest of the visitor's token.
    """
    mine = [
        run
        for run in stored
        if run.owner is not None and not run.pinned and (run.owner == owner or permissions.presenter(owner))
    ]
    return sorted(mine, key=lambda run: run.id)
