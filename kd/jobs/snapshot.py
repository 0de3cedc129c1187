"""The state of a job at one moment, as pages see it, and how often to ask for it again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kd.config.base import Settings
from kd.config.distil import Change

TICK = 0.25  # seconds between the records of a job
GLANCE = 45.0  # seconds between two requests of a spectator who follows a run's live feed

#: States are strings, not an Enum, because objects in memory outlive a reload of this module.
ACTIVE = ("queued", "running", "paused")


def pace(viewers: int) -> float:
    """Return how many seconds each viewer of a run waits between two requests.

    The interval grows with the square root of the number of viewers, and so does the total rate
    of requests: 4 per second for one viewer, 13 for ten, 28 for fifty.
    """
    return TICK * math.sqrt(max(1, viewers))


@dataclass(frozen=True)
class Snapshot:
    """The state of a job at one moment, as pages see it.

    ``state`` is queued, running, paused, done, stopped, failed, interrupted, or elsewhere
    (training in another process).
    """

    id: str
    kind: str
    config: Settings
    state: str
    message: str  # a plain sentence, or empty
    place: int  # in the queue: 1 is next; 0 if not queued
    mine: bool
    version: int  # increases with each change
    rows: tuple[dict[str, float], ...]
    steps: int  # of the whole training
    changes: tuple[Change, ...]  # made by the owner or by the schedule
    settings: Mapping[str, float]
    saved: bool
    measures: Mapping[str, Any]
    source: str | None  # of the data: full, sample, or None before the start
    viewers: int = 1  # people who sent a request recently

    @property
    def active(self) -> bool:
        """Return whether the job is queued, running or paused."""
        return self.state in ACTIVE

    @property
    def followed(self) -> bool:
        """Return whether it is somebody else's active job, which the viewer can only watch."""
        return self.active and not self.mine

    @property
    def pace(self) -> float:
        """Return the seconds until the viewer's next request.

        The owner's interval does not depend on the number of viewers.
        """
        return TICK if self.mine else pace(self.viewers)
