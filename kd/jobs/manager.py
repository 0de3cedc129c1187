"""The background worker: one thread that trains, a short queue before it, and leases.

The thread never touches Streamlit. Pages give commands, which it follows between
two optimizer steps, and read snapshots. A job is found by its id, which cannot be
guessed and may be shared; only who holds the owner's token can command it.

A job that did not end, because the server was killed or told to end or because its
training failed, stays as its checkpoint, from which its owner can resume it. One that
ended by itself or was stopped is stored as a run, and has none.
"""

from __future__ import annotations

import atexit
import contextlib
import copy
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from kd import permissions
from kd.config import kinds
from kd.config.base import Settings
from kd.config.distil import LIVE_SETTINGS, MAX_CHANGES, Change, check_live, unread
from kd.data import sources
from kd.device import training_device
from kd.errors import UserError
from kd.experiments.base import Experiment
from kd.store import checkpoints, quota, runs
from kd.teachers import averaged, cached, catalogue
from kd.training import memory
from kd.training.loop import Diverged, Record

TICK = 0.25  # seconds between the records of a job
LEASE = 180.0  # seconds without a viewer after which a job ends; hidden tabs poll once a minute
PATIENCE = 120.0  # seconds that a paused job keeps the worker while others wait
MAX_WAITING = 8
MAX_PER_OWNER = 3
MAX_ACTIVE = 24  # of all owners, since paused jobs do not wait but keep their memory, and a visitor can make owners at will
MAX_REMEMBERED = 20  # finished jobs kept in memory
MAX_ROWS = 1200  # records of a job kept for its charts
GLANCE = 45.0  # seconds between two looks of who follows a run's broadcast
WATCHING = 1.5 * GLANCE  # seconds after a look during which somebody counts as a viewer

BY_HAND = "Stopped by hand."

#: States are strings, since stored objects outlive reloads of this module.
ACTIVE = ("queued", "running", "paused")

T = TypeVar("T")
log = logging.getLogger(__name__)


def pace(viewers: int) -> float:
    """Seconds between two looks of each of ``viewers`` at one run.

    Grows with the root of their number, so that the work for all of them does too: 4 looks
    a second of one, 13 of ten, 28 of fifty.
    """
    return TICK * math.sqrt(max(1, viewers))


@dataclass(frozen=True)
class Snapshot:
    """What a page may know of a job at one moment."""

    id: str
    kind: str
    config: Settings
    state: str  # queued, running, paused, done, stopped, failed, interrupted; elsewhere: in training in another process
    message: str  # a plain sentence, or empty
    place: int  # in the queue: 1 is next; 0 where not queued
    mine: bool
    version: int  # grows with each change
    rows: tuple[dict[str, float], ...]
    steps: int  # of how many
    changes: tuple[Change, ...]  # made by hand or by the schedule
    settings: Mapping[str, float]
    saved: bool
    measures: Mapping[str, Any]
    source: str | None  # of the data: full, sample, or None before the start
    viewers: int = 1  # who looked at it lately

    @property
    def active(self) -> bool:
        return self.state in ACTIVE

    @property
    def followed(self) -> bool:
        """Whether it is somebody else's, and under way: its viewers all see the same and command nothing."""
        return self.active and not self.mine

    @property
    def pace(self) -> float:
        """Seconds until it is worth another look. Who commands the run sees it live, however many watch."""
        return TICK if self.mine else pace(self.viewers)


@dataclass
class _Job:
    id: str
    config: Settings
    owner: str  # digest of the token
    lease: float | None
    keeper: checkpoints.Keeper
    resumed: bool = False  # it begins from its checkpoint
    state: str = "queued"
    message: str = ""
    version: int = 0
    unkept: str = ""  # why the last checkpoint could not be written
    rows: list[dict[str, float]] = field(default_factory=list)
    steps: int = 0
    changes: list[Change] = field(default_factory=list)
    settings: dict[str, float] = field(default_factory=dict)
    touched: float = field(default_factory=time.monotonic)
    looks: dict[str | None, float] = field(default_factory=dict)  # digest of a viewer's token -> when
    saved: bool = False
    measures: dict[str, Any] = field(default_factory=dict)
    source: str | None = None
    last: Record | None = None
    ended: str = ""  # how, as it is stored with the run
    # Commands, followed by the worker between two steps.
    stop: str = ""  # why
    to_step: int = 0
    pending: dict[str, float] = field(default_factory=dict)
    attention: threading.Event = field(default_factory=threading.Event)
    paused_at: float = 0.0
    # The worker's own.
    experiment: Experiment | None = None
    records: Any = None
    published: dict[str, nn.Module] = field(default_factory=dict)
    publishing: threading.Lock = field(default_factory=threading.Lock)

    @property
    def kind(self) -> str:
        return kinds.of(self.config).name

    @property
    def shown(self) -> str:
        """The state that pages see: one step makes no running run of a paused one. Where Resume stands would be Pause for a moment, under a hand that clicks."""
        return "paused" if self.state == "running" and self.to_step > 0 and self.last else self.state


class JobManager:
    """The one place where training is started, queued, commanded and watched.

    Args:
        source: where the data come from.
        tick: seconds between records.
        lease: seconds after which an unwatched job ends.
        patience: seconds that a paused job keeps the worker from others.
    """

    def __init__(
        self, source: sources.Source, tick: float = TICK, lease: float = LEASE, patience: float = PATIENCE
    ):
        self.source = source
        self._tick, self._lease, self._patience = tick, lease, patience
        self._jobs: dict[str, _Job] = {}
        self._waiting: deque[_Job] = deque()
        self._current: _Job | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._teachers: dict[str, cached.CachedTeacher | averaged.MeanTeacher] = {}
        self._loading = threading.Lock()
        self._thread: threading.Thread | None = None
        checkpoints.tidy()
        atexit.register(self.close)

    # -- for pages -----------------------------------------------------------------

    def start(self, config: Settings, token: str, paused: bool = False) -> str:
        """Queues a run and returns its id.

        Args:
            token: the owner's secret.
            paused: it waits for a step or for resume as soon as it is its turn.

        Raises:
            UserError: the queue or the store is full, this owner has enough jobs in it, or only the presenter may.
        """
        owner = runs.owner_digest(token)
        if owner is None:
            raise UserError("This browser has no token yet; reload the page and press Start again.")
        permissions.check(owner, "start runs")
        config.for_visitors()
        quota.check(self.active())
        kind = kinds.of(config)
        if kind.has_teacher:  # a wrong name, or a teacher that does not suit the config, is reported now
            kind.check_teacher(config, self.teacher(config.teacher).architecture)
        id = runs.new_id()
        job = _Job(id, config, owner, self._lease, checkpoints.Keeper(id, owner))
        if paused:
            job.to_step = -1  # pause before the first step
        self._enqueue(job)
        return id

    def snapshot(self, id: str, token: str | None = None, counts: bool = True) -> Snapshot | None:
        """The job as it is now, or None where there is none. Being asked by somebody, which ``counts``, renews its lease."""
        with self._changed:
            job = self._jobs.get(id)
            if job is None:
                return None
            viewer, now = runs.owner_digest(token), time.monotonic()
            if counts:
                job.touched = job.looks[viewer] = now
            job.looks = {who: when for who, when in job.looks.items() if now - when < WATCHING}
            place = self._waiting.index(job) + 1 if job in self._waiting else 0
            return Snapshot(
                job.id,
                job.kind,
                job.config,
                job.shown,
                job.message or job.unkept,
                place,
                job.owner == viewer,
                job.version,
                tuple(job.rows),
                job.steps,
                tuple(job.changes),
                dict(job.settings),
                job.saved,
                job.measures,
                job.source,
                len(job.looks),
            )

    def active(self) -> int:
        """How many jobs train, are paused or wait."""
        with self._changed:
            return sum(job.state in ACTIVE for job in self._jobs.values())

    def busy(self) -> bool:
        """Whether something trains or is about to, so that no time measured now could be trusted. What is paused computes nothing."""
        with self._changed:
            return any(
                job.state in ACTIVE and (job.state != "paused" or job.stop) for job in self._jobs.values()
            )

    def pause(self, id: str, token: str) -> None:
        with self._owned(id, token) as job:
            if job.state == "running":
                job.to_step = 0
                self._set(job, "paused")
            elif job.state == "queued":
                job.to_step = -1

    def resume(self, id: str, token: str) -> None:
        """Goes on with a paused run, or with one that was interrupted, from its checkpoint.

        Raises:
            UserError: the checkpoint is missing, damaged, somebody else's, in use or does not fit the data; or as start().
        """
        with self._changed:
            job = self._jobs.get(id)
        if job is None or job.state == "interrupted":
            self._reopen(id, token)
            return
        with self._owned(id, token) as job:
            job.to_step = 0
            if job.state == "paused":
                self._go_on(job)

    def step(self, id: str, token: str) -> None:
        """One optimizer step, then paused."""
        with self._owned(id, token) as job:
            if (
                job.state in ("paused", "running") or job.to_step < 0
            ):  # the last: it waits for its turn, to pause there
                job.to_step = max(0, job.to_step) + 1
            if job.state == "paused":
                self._go_on(job)

    def stop(self, id: str, token: str) -> None:
        """Ends the job; what it has learned is measured and stored."""
        with self._owned(id, token) as job:
            if job.state in ACTIVE:
                self._end(job, BY_HAND)

    def change(self, id: str, token: str, name: str, value: float) -> None:
        """Another temperature or soft_weight from the next step on.

        Raises:
            UserError: a setting that cannot change or that the method does not read, or a value out of range.
        """
        if name not in LIVE_SETTINGS:
            raise UserError(f"Only {' and '.join(LIVE_SETTINGS)} can change during training.")
        value = check_live(name, value)
        with self._owned(id, token) as job:
            if not kinds.of(job.config).live or job.state not in ACTIVE:
                return
            if not job.config.reads(name):
                raise UserError(unread(name, job.config.method))
            if len(job.changes) + len({*job.pending, name}) > MAX_CHANGES:
                raise UserError(f"A run can hold at most {MAX_CHANGES} changes.")
            if job.settings.get(name) != value or name in job.pending:
                job.pending[name] = value

    def save_again(self, id: str, token: str) -> None:
        """Tries again to store a finished run that could not be stored.

        Raises:
            UserError: it still cannot be.
        """
        with self._owned(id, token) as job:
            if job.experiment and not job.saved and job.state in ("done", "stopped"):
                self._save(job, job.state)
                self._set(job, job.state, job.ended)
                job.experiment = None

    def look(self, id: str, read: Callable[[nn.Module], T]) -> dict[str, T]:
        """What ``read`` gives for each of the job's models as they were at its last record; empty before it. It keeps no part of them."""
        job = self._jobs.get(id)
        if job is None:
            return {}
        with job.publishing, torch.inference_mode():
            return {name: read(model) for name, model in job.published.items()}

    def predict(self, id: str, inputs: Tensor) -> dict[str, Tensor]:
        """Logits (N, 10) on ``inputs`` by the job's models as they were at its last record; empty before it."""
        return self.look(id, lambda model: model(inputs.to(next(model.parameters()).device)).cpu())

    def teacher(self, name: str) -> cached.CachedTeacher | averaged.MeanTeacher:
        """The teacher called ``name``, loaded once."""
        with self._loading:
            found = self._teachers.get(name)
            if found is None:
                found = catalogue.load(name, training_device())
                if len(self._teachers) >= 3:  # each holds 3 MB of logits
                    self._teachers.pop(next(iter(self._teachers)))
                self._teachers[name] = found
            return found

    def close(self) -> None:
        """Stops the worker and waits for it; of runs that have begun a checkpoint is kept."""
        with self._changed:
            self._closed = True
            for job in self._jobs.values():
                job.attention.set()
            self._changed.notify_all()
        self.source.close()
        if self._thread is not None:
            self._thread.join(5)
        atexit.unregister(self.close)

    # -- under the lock ------------------------------------------------------------

    @contextlib.contextmanager
    def _owned(self, id: str, token: str) -> Iterator[_Job]:
        """The job under the lock, for a command by its owner; the worker is told."""
        with self._changed:
            job = self._jobs.get(id)
            if job is None:
                raise UserError("This run is no longer there; press Reset.")
            if job.owner != runs.owner_digest(token):
                raise UserError("Only the person who started this run can command it.")
            yield job
            job.attention.set()
            self._changed.notify_all()

    def _enqueue(self, job: _Job) -> None:
        """Puts a job into the queue, where there is room for it. Takes the lock itself."""
        with self._changed:
            if self._closed:
                raise UserError("The server is shutting down; start the run again in a minute.")
            active = [other for other in self._jobs.values() if other.state in ACTIVE]
            if sum(other.owner == job.owner for other in active) >= MAX_PER_OWNER:
                raise UserError(
                    f"You already have {MAX_PER_OWNER} runs under way; stop one or wait for it to end."
                )
            if len(self._waiting) >= MAX_WAITING:
                raise UserError(f"{MAX_WAITING} runs are already waiting; try again when one has ended.")
            if len(active) >= MAX_ACTIVE:
                raise UserError(
                    f"{MAX_ACTIVE} runs are already under way, most of them paused; try again when one has ended."
                )
            self._jobs[job.id] = job
            self._waiting.append(job)
            self._forget_old()
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="kd-worker", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def _reopen(self, id: str, token: str) -> None:
        """Queues an interrupted run again. Takes the lock itself."""
        owner = checkpoints.owned(id, token).owner
        keeper = checkpoints.Keeper(id, owner)
        keeper.claim()
        try:
            kept = checkpoints.owned(id, token)  # read again: until the claim another could go on with it
            kept.check(
                self.source.mnist().digest,
                self.teacher(kept.config.teacher).digest if kept.about.has_teacher else None,
            )
            job = _Job(id, kept.config, owner, self._lease, keeper, resumed=True, rows=kept.rows)
            job.changes = list(getattr(kept.config, "schedule", ()))
            self._enqueue(job)
        except BaseException:
            keeper.leave(ended=False)
            raise

    def _set(self, job: _Job, state: str, message: str = "") -> None:
        job.state, job.message = state, message
        job.version += 1
        if state == "paused":
            job.paused_at = time.monotonic()

    def _go_on(self, job: _Job) -> None:
        """From paused to running, or back into the queue where another has the worker."""
        if job.stop:
            return
        if self._current is job:
            self._set(job, "running")
        else:
            self._set(job, "queued")
            self._waiting.append(job)

    def _end(self, job: _Job, why: str) -> None:
        if job.stop:
            return
        job.stop = why
        if job is not self._current:
            # It does not hold the worker: it goes first, to be measured and stored between two records.
            if job in self._waiting:
                self._waiting.remove(job)
            if job.records is None and job.resumed:  # as if it had not been resumed
                job.keeper.leave(ended=False)
                self._set(job, "interrupted", why)
            elif job.records is None:
                self._set(job, "stopped", why)
            else:
                self._waiting.appendleft(job)
        job.attention.set()

    def _forget_old(self) -> None:
        finished = [job for job in self._jobs.values() if job.state not in ACTIVE]
        for job in finished[: max(0, len(finished) - MAX_REMEMBERED)]:
            del self._jobs[job.id]

    def _expire(self) -> None:
        for job in self._jobs.values():
            if (
                job.state in ACTIVE
                and not job.stop
                and job.lease
                and time.monotonic() - job.touched > job.lease
            ):
                self._end(job, "Ended because nobody was watching.")

    def _next(self) -> _Job | None:
        """The job that may have the worker now, or None."""
        if self._waiting and self._waiting[0].stop:
            return self._waiting.popleft()
        job = self._current
        if job is not None and (job.state == "running" or job.stop):
            return job
        if job is not None and job.state == "paused":
            if not self._waiting or time.monotonic() - job.paused_at < self._patience:
                return None
            job.message = "Paused; others are training meanwhile. Resume puts it back into the queue."
            job.version += 1
        self._current = self._waiting.popleft() if self._waiting else None
        if self._current is not None:
            self._set(self._current, "running")
            for waiting in self._waiting:
                waiting.version += 1
        return self._current

    # -- the worker ----------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._changed:
                self._expire()
                while not self._closed and (job := self._next()) is None:
                    self._changed.wait(0.5)
                    self._expire()
                if self._closed:
                    break
            try:
                self._advance(job)
            except UserError as error:
                self._fail(job, str(error))
            except Exception as error:
                log.exception("job %s failed", job.id)
                told = "Training failed because of an error in the program; the server's log tells more."
                self._fail(job, memory.RAN_OUT if memory.ran_out(error) else told)
        for job in self._jobs.values():
            if job.state in ACTIVE and job.last is not None:
                self._take_up(job)
                self._keep(job)
            if job.records is not None:
                with contextlib.suppress(Exception):
                    job.records.close()  # it lets go of what it holds
            job.keeper.leave(ended=False)

    def _advance(self, job: _Job) -> None:
        """Trains ``job`` up to its next record, or ends it."""
        if job.records is None:
            self._begin(job)
        with self._changed:
            if job.to_step < 0 and not job.stop:  # asked to pause while it was waiting
                job.to_step = 0
                self._set(job, "paused")
            if job.state == "paused" and not job.stop:
                return
            job.attention.clear()
        if job.stop:
            self._finish(job, "stopped", job.stop)
            return
        self._take_up(job)
        # The very first record comes after one step, so that the charts begin at once.
        self._due_at = time.monotonic() + (self._tick if job.last else 0)
        try:
            record = next(job.records)
        except StopIteration:
            self._finish(job, "done", "")
            return
        except Diverged as error:  # so it would again: the end of the run, as its last record has it
            if job.last is None:
                raise
            self._finish(job, "stopped", f"{error} What it had learned by step {job.last.step:,} is kept.")
            return
        self._publish(job)
        first = job.last is None
        with self._changed:
            job.last = record
            job.rows.append(record.row())
            if len(job.rows) > MAX_ROWS:  # thin out, but keep the ends of epochs and the newest
                job.rows = [row for i, row in enumerate(job.rows) if i % 2 == 0 or row["whole_validation"]]
            job.steps = record.steps
            for step, name, value in sorted(job.changes, key=lambda change: change[0]):
                if step <= record.step:
                    job.settings[name] = value
            job.version += 1
            if job.to_step > 0:
                job.to_step -= 1
                if job.to_step == 0 and job.state == "running":
                    self._set(job, "paused")
            paused = job.state == "paused"
        # From its first record on a run that is cut short is there to go on with.
        if not job.stop and (paused or job.keeper.due(record) or first and record.step < record.steps):
            self._keep(job)

    def _take_up(self, job: _Job) -> None:
        """Makes the changes that were asked for since the last record."""
        training = job.experiment.training
        with self._changed:
            pending, job.pending = job.pending, {}
            if pending:
                job.changes += [(training.step, name, value) for name, value in pending.items()]
                job.settings.update(pending)
                job.version += 1
        training.settings.update(pending)

    def _keep(self, job: _Job) -> None:
        """Writes a checkpoint. That it cannot is told on the page, and does not end the training."""
        problem = job.keeper.keep(job.experiment, self._config_so_far(job), job.rows)
        if problem:
            problem += " Training goes on, but what is not saved is lost if the server ends."
        with self._changed:
            if problem and not job.unkept:
                log.warning("run %s: %s", job.id, problem)
            job.version += problem != job.unkept
            job.unkept = problem

    def _begin(self, job: _Job) -> None:
        mnist = self.source.mnist()
        kept = checkpoints.load(job.id) if job.resumed else None
        kind = kinds.of(job.config)
        teacher = self.teacher(job.config.teacher) if kind.has_teacher else None
        experiment = kind.build(job.config, mnist, teacher)
        job.changes = list(getattr(job.config, "schedule", ()))
        if kept:
            kept.check(mnist.digest, experiment.reference.digest if experiment.reference else None)
        job.experiment, experiment.owner = experiment, job.owner
        job.records = experiment.records(lambda step: self._due(job), kept.state if kept else None)
        job.settings, job.source = dict(experiment.training.settings), mnist.source
        if kept:
            row, job.steps = kept.rows[-1], experiment.training.steps
            job.last = Record(
                int(row["step"]), job.steps, row["epoch"], row["seconds"], 0.0, {}, {}, {}, False
            )
            self._publish(job)

    def _due(self, job: _Job) -> bool:
        """Whether a record is wanted after this step."""
        return job.to_step > 0 or job.attention.is_set() or self._closed or time.monotonic() >= self._due_at

    def _publish(self, job: _Job) -> None:
        """Copies the weights for predictions, so that pages never read a model in training."""
        with job.publishing, torch.no_grad():
            for name, model in job.experiment.trained.items():
                if name not in job.published:
                    job.published[name] = copy.deepcopy(model).eval()
                for theirs, ours in zip(
                    job.published[name].state_dict().values(), model.state_dict().values()
                ):
                    theirs.copy_(ours)

    def _finish(self, job: _Job, state: str, message: str) -> None:
        job.records.close()
        if job.last is None:  # stopped before it learned anything: nothing to store
            self._leave(job, "stopped", message)
            return
        with self._changed:
            self._set(job, job.state, "Measuring on the test set…")
        job.measures, job.ended = job.experiment.measures(job.last), message
        try:
            self._save(job, state)
        except UserError as error:
            message = f"{message} {error}".strip()
        self._leave(job, state, message)

    def _fail(self, job: _Job, message: str) -> None:
        if job.records is not None:
            with contextlib.suppress(Exception):  # it has failed already
                job.records.close()
        state = "failed"
        if job.keeper.kept:
            state, message = "interrupted", f"{message} Resume goes on from its last checkpoint."
        job.keeper.leave(ended=False)
        self._leave(job, state, message)

    def _leave(self, job: _Job, state: str, message: str) -> None:
        with self._changed:
            self._set(job, state, message)
            job.records, job.unkept = None, ""
            if (
                job.saved or state in ("failed", "interrupted") or job.last is None
            ):  # else it can still be saved
                job.experiment = None
            if self._current is job:
                self._current = None
            self._changed.notify_all()

    def _save(self, job: _Job, state: str) -> None:
        runs.save(
            job.id,
            self._config_so_far(job),
            state,
            job.rows,
            job.experiment.trained,
            job.measures,
            job.owner,
            message=job.ended,
            tensors=job.experiment.tensors,
        )
        job.saved = True
        job.keeper.leave(ended=True)

    def _config_so_far(self, job: _Job) -> Settings:
        """The settings, with the changes made by hand."""
        return job.config.replace(schedule=tuple(job.changes)) if kinds.of(job.config).live else job.config
