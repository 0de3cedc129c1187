"""How much the stored runs may take, and which are to go first.

What is under way is always stored, since nothing that was learned may be lost: what is
bounded is what begins. The bounds are $KD_MAX_RUNS and $KD_MAX_BYTES.
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
    """What is stored, beside what may be."""

    runs: int
    bytes: int
    max_runs: int
    max_bytes: int

    @property
    def share(self) -> float:
        return max(self.runs / self.max_runs, self.bytes / self.max_bytes)

    def __str__(self) -> str:
        return f"{self.runs:,} of {self.max_runs:,} runs, {self.bytes / 1e6:,.0f} of {self.max_bytes / 1e6:,.0f} MB"


def usage() -> Usage:
    """What is stored now: runs that are finished or kept unfinished, and the bytes of all in their folder."""
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
    """Bytes of a stored run."""
    return _bytes(run.folder)


def _bytes(folder: os.PathLike | str) -> int:
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
                except OSError:  # it has just gone
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
            f"{name} is {text!r}, which is no number of at least 1; set it to one, or to nothing for {default:,}."
        )
    return int(value)


def check(pending: int = 0) -> None:
    """Sees that there is room for another run.

    Args:
        pending: how many are under way, each of which will be stored.

    Raises:
        UserError: there is not.
    """
    now = usage()
    if now.runs + pending >= now.max_runs or now.bytes >= now.max_bytes:
        coming = f" and {pending} under way" if pending else ""
        raise UserError(
            f"The store is full ({now}{coming}), so nothing new can begin; nothing is lost. Delete runs on the Runs page, where the oldest are offered, "
            "or ask who runs this server to raise KD_MAX_RUNS or KD_MAX_BYTES."
        )


def removable(found: Sequence[Run], owner: str | None) -> list[Run]:
    """The runs that this visitor can delete and that are not pinned, the oldest first."""
    mine = [
        run
        for run in found
        if run.owner is not None and not run.pinned and (run.owner == owner or permissions.presenter(owner))
    ]
    return sorted(mine, key=lambda run: run.id)
