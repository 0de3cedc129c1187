"""Replays of stored runs: the player's position, and the records up to that time.

A replay is computed from the stored run alone, without a worker or a model.
"""

from __future__ import annotations

import bisect
import dataclasses
import datetime
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from kd.errors import UserError
from kd.store import runs

SPEEDS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0)

Row = Mapping[str, float]


@dataclass(frozen=True)
class Player:
    """The position of a replay. ``now`` is always the caller's clock, in seconds."""

    length: float  # of the recording, in seconds of training
    at: float = 0.0  # seconds into the recording, as of ``since``
    since: float | None = None  # None: paused
    speed: float = 1.0  # one of SPEEDS

    def position(self, now: float) -> float:
        """Return the position in seconds of the recording."""
        played = 0.0 if self.since is None else self.speed * max(0.0, now - self.since)
        return min(self.length, self.at + played)

    def ended(self, now: float) -> bool:
        """Return whether the position is the end of the recording."""
        return self.position(now) >= self.length

    def playing(self, now: float) -> bool:
        """Return whether it is neither paused nor at the end."""
        return self.since is not None and not self.ended(now)

    def play(self, now: float) -> Self:
        """Return the player set to play, from the beginning if it was at the end."""
        return dataclasses.replace(self, at=0.0 if self.ended(now) else self.position(now), since=now)

    def pause(self, now: float) -> Self:
        """Return the player paused at its position."""
        return dataclasses.replace(self, at=self.position(now), since=None)

    def seek(self, seconds: float, now: float) -> Self:
        """Return the player moved to ``seconds``, within the recording, playing or paused as before."""
        seconds = min(self.length, max(0.0, seconds)) if math.isfinite(seconds) else 0.0
        return dataclasses.replace(self, at=seconds, since=None if self.since is None else now)

    def at_speed(self, speed: float, now: float) -> Self:
        """Return the player with another speed.

        Raises:
            UserError: ``speed`` is not one of SPEEDS.
        """
        if speed not in SPEEDS:
            raise UserError(f"The speed of a replay must be one of {', '.join(f'{s:g}' for s in SPEEDS)}.")
        return dataclasses.replace(self.seek(self.position(now), now), speed=speed)


@dataclass(frozen=True)
class Recording:
    """A stored run and its records, ordered by time."""

    run: runs.Run
    rows: tuple[Row, ...]

    @property
    def length(self) -> float:
        """Seconds of training."""
        return self.rows[-1]["seconds"]

    @property
    def day(self) -> str:
        """When it was recorded, such as "25 November 2026, 17:54"."""
        moment = datetime.datetime.fromisoformat(self.run.created)
        return f"{moment.day} {moment:%B %Y, %H:%M}"

    def until(self, seconds: float) -> tuple[Row, ...]:
        """Return the records of the first ``seconds`` of training."""
        return self.rows[: bisect.bisect_right(self.rows, seconds, key=lambda row: row["seconds"])]

    def next(self, seconds: float) -> float:
        """Return the time of the first record after ``seconds``, or the end if there is none."""
        place = bisect.bisect_right(self.rows, seconds, key=lambda row: row["seconds"])
        return self.rows[min(place, len(self.rows) - 1)]["seconds"]


def load(id: str) -> Recording:
    """Return the recording of a stored run.

    Raises:
        UserError: there is no such run, it has no curves over time, or it is damaged.
    """
    run = runs.load(id)
    if not run.about.replay:
        raise UserError("A run of this kind has no curves to replay; choose another on the Runs page.")
    rows = run.metrics()
    moments = [row.get(name, math.nan) for row in rows for name in ("seconds", "step", "epoch")]
    ordered = (
        all(before["seconds"] <= after["seconds"] for before, after in zip(rows, rows[1:]))
        if all(map(math.isfinite, moments))
        else False
    )
    try:
        datetime.datetime.fromisoformat(run.created)
    except ValueError:
        ordered = False
    if not rows or not ordered:
        raise UserError(
            f"The recording of {run.name} is empty or damaged, so it cannot be replayed; "
            "choose another on the Runs page."
        )
    return Recording(run, tuple(rows))


def last_finished(owner: str | None) -> str:
    """Return the id of the newest finished run that can be replayed.

    The owner's own runs come first, then anybody's, then the one that ships with the program.

    Args:
        owner: the digest of the owner's token.

    Raises:
        UserError: there is none, and the shipped one is damaged.
    """
    finished = [run for run in runs.list_runs()[0] if run.about.replay and run.state == "done"]
    mine = [run for run in finished if owner is not None and run.owner == owner]
    return next((run.id for run in mine + finished), None) or runs.recorded().id
