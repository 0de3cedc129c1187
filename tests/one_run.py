"""A manager with a single run in training, for the tests of our routes."""

from __future__ import annotations

from kd.config.distil import DistilConfig
from kd.jobs.snapshot import Snapshot
from kd.store import runs

ID = runs.new_id()
RUN = Snapshot(ID, "distil", DistilConfig(), "running", "", 0, False, 1, (), 0, (), {}, False, {}, "full")


class Manager:
    """A manager with a single run, which tests change."""

    def __init__(self) -> None:
        self.run: Snapshot | None = RUN

    def snapshot(self, id: str, counts: bool) -> Snapshot | None:
        assert not counts, "a request of a route must not count as a viewer; the pages count them"
        return self.run if id == ID else None
