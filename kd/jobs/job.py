"""The state of one job: the owner's commands, its viewers, its progress and its outcome."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

from kd.config import kinds
from kd.config.base import Settings
from kd.config.distil import Change
from kd.config.kind import Kind
from kd.experiments.base import Experiment
from kd.jobs.published import PublishedModels
from kd.jobs.snapshot import ACTIVE, GLANCE, Snapshot
from kd.store import checkpoints, runs
from kd.training.loop import Record

MAX_ROWS = 1200  # records of a job kept for its charts
WATCHING = 1.5 * GLANCE  # seconds for which a request counts somebody as a viewer
MAX_COUNTED = 1000  # viewers of one job: anybody can make up tokens
BEFORE_FIRST_STEP = -1  # a value of Commands.steps: pause when the job's turn comes


@dataclass
class Commands:
    """The owner's commands, which the worker follows between two optimizer steps."""

    stop: str = ""  # why the job should end; empty: it continues
    reset: bool = False  # whether to forget the job unless it has finished an epoch
    steps: int = 0  # left to make before a pause; 0: no limit; or BEFORE_FIRST_STEP
    settings: dict[str, float] = field(default_factory=dict)  # new values, from the next step on
    attention: bool = False  # whether the worker should look at the commands before the next record is due


@dataclass
class Viewers:
    """The people who watch a job."""

    last_seen: float  # time of the last request by anybody
    requests: dict[str | None, float] = field(
        default_factory=dict
    )  # digest of a viewer's token -> last time, oldest first

    def look(self, viewer: str | None, now: float) -> None:
        """Count a request by the viewer whose token has this digest."""
        self.requests.pop(viewer, None)
        self.last_seen = self.requests[viewer] = now
        if len(self.requests) > MAX_COUNTED:  # the one who has been away the longest
            del self.requests[next(iter(self.requests))]

    def count(self, now: float) -> int:
        """Return how many people sent a request recently."""
        self.requests = {viewer: last for viewer, last in self.requests.items() if now - last < WATCHING}
        return len(self.requests)


@dataclass
class Progress:
    """The progress of the training, with the settings that it uses now."""

    rows: list[dict[str, float]] = field(default_factory=list)  # one per record
    last: Record | None = None
    steps: int = 0  # of the whole training
    changes: list[Change] = field(default_factory=list)  # made by the owner or by the schedule
    settings: dict[str, float] = field(default_factory=dict)  # the current values
    source: str | None = None  # of the data: full, sample, or None before the start

    @property
    def finished_epoch(self) -> bool:
        """Return whether the end of an epoch was reached."""
        return any(row["whole_validation"] for row in self.rows)

    def add(self, record: Record) -> None:
        """Add a record, and apply the scheduled changes up to its step."""
        self.last, self.steps = record, record.steps
        self.rows.append(record.row())
        if len(self.rows) > MAX_ROWS:  # keep every second row, the ends of epochs and the newest row
            self.rows = [row for i, row in enumerate(self.rows) if i % 2 == 0 or row["whole_validation"]]
        for step, name, value in sorted(self.changes, key=lambda change: change[0]):
            if step <= record.step:
                self.settings[name] = value

    def change(self, step: int, settings: dict[str, float]) -> None:
        """Record that the owner changed ``settings`` after ``step`` optimizer steps."""
        self.changes += [(step, name, value) for name, value in settings.items()]
        self.settings.update(settings)


@dataclass
class Outcome:
    """The measures and the message of a job that has ended, and whether its run is stored."""

    measures: dict[str, Any] = field(default_factory=dict)
    message: str = ""  # why it ended, as it is stored with the run
    saved: bool = False


@dataclass
class Job:
    """One run in this process, from the queue to its end.

    Everything here is read and written under the manager's lock, except for ``experiment`` and
    ``records``, which only the worker uses while the job is active, and ``published``, which has
    a lock of its own.

    Args:
        owner: digest of the owner's token.
        keeper: writes its checkpoints.
        viewers: the people who watch it; if there are none for some time, the job ends.
        resumed: whether training starts from the checkpoint.
    """

    id: str
    config: Settings
    owner: str
    keeper: checkpoints.Keeper
    viewers: Viewers
    resumed: bool = False
    state: str = "queued"
    message: str = ""
    warning: str = ""  # why the last checkpoint could not be written
    version: int = 0
    paused_at: float = 0.0
    commands: Commands = field(default_factory=Commands)
    progress: Progress = field(default_factory=Progress)
    outcome: Outcome = field(default_factory=Outcome)
    experiment: Experiment | None = None  # from the start of training until the run is stored
    records: Generator[Record, None, None] | None = None  # from the start of training to its end
    published: PublishedModels = field(default_factory=PublishedModels)

    @property
    def kind(self) -> Kind:
        return kinds.of(self.config)

    @property
    def active(self) -> bool:
        """Return whether the job is queued, running or paused."""
        return self.state in ACTIVE

    @property
    def begun(self) -> bool:
        """Return whether its training has begun and not ended."""
        return self.records is not None

    @property
    def shown_state(self) -> str:
        """Return the state that pages see.

        Report "paused" during a single step, so that Resume does not flicker to Pause under the cursor.
        """
        stepping = self.state == "running" and self.commands.steps > 0 and self.progress.last is not None
        return "paused" if stepping else self.state

    @property
    def config_so_far(self) -> Settings:
        """Return the settings, with the owner's changes added to the schedule."""
        if not self.kind.live:
            return self.config
        return self.config.replace(schedule=tuple(self.progress.changes))

    def set(self, state: str, message: str = "") -> None:
        """Change the state and the message."""
        self.state, self.message = state, message
        self.version += 1

    def snapshot(self, viewer: str | None, place: int, now: float) -> Snapshot:
        """Return the state of the job for one viewer.

        Args:
            viewer: the digest of the viewer's token.
            place: the place in the queue, from 1; 0 if the job is not queued.
        """
        progress, outcome = self.progress, self.outcome
        return Snapshot(
            id=self.id,
            kind=self.kind.name,
            config=self.config,
            state=self.shown_state,
            message=self.message or self.warning,
            place=place,
            mine=self.owner == viewer,
            version=self.version,
            rows=tuple(progress.rows),
            steps=progress.steps,
            changes=tuple(progress.changes),
            settings=dict(progress.settings),
            saved=outcome.saved,
            measures=outcome.measures,
            source=progress.source,
            viewers=self.viewers.count(now),
        )

    def save(self, state: str) -> None:
        """Store the run and delete its checkpoint.

        Raises:
            UserError: the run could not be written.
        """
        assert self.experiment is not None
        runs.save(
            self.id,
            self.config_so_far,
            state,
            self.progress.rows,
            self.experiment.trained,
            self.outcome.measures,
            self.owner,
            message=self.outcome.message,
            tensors=self.experiment.tensors,
        )
        self.outcome.saved = True
        self.keeper.leave(ended=True)
