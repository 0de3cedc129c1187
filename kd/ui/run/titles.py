"""One line that says what a run is: networks, method, settings and seed."""

from __future__ import annotations

from kd.config.kinds import KINDS
from kd.jobs.snapshot import Snapshot
from kd.ui.run import names


def title(snap: Snapshot) -> str:
    """Return the settings of a run in a line."""
    return KINDS[snap.kind].title(snap.config, names.of_teacher)
