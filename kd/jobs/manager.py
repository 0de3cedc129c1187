"""The interface through which pages and routes start, control and watch background training.

One thread trains the jobs of a short queue, and a job that nobody watches ends. The thread
never touches Streamlit: pages read snapshots and give commands, which the thread follows
between two optimizer steps. A job's id cannot be guessed and may be shared, to let others
watch; only the holder of the owner's token can control the job.

If the server stops, training fails or nobody watches, the checkpoint is kept, and the owner can
resume the run from it. A job that finishes or is stopped is stored as a run, without a checkpoint.
"""

from __future__ import annotations

import atexit
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from torch import Tensor, nn

from kd import permissions
from kd.config import kinds
from kd.config.base import Settings
from kd.config.distil import LIVE_SETTINGS, MAX_CHANGES, check_live, unread
from kd.data import sources
from kd.errors import UserError
from kd.jobs.job import BEFORE_FIRST_STEP, Job, Viewers
from kd.jobs.queue import LEASE, PATIENCE, STOPPED, JobQueue
from kd.jobs.snapshot import TICK, Snapshot
from kd.jobs.teacher_cache import TeacherCache
from kd.jobs.worker import Worker
from kd.store import checkpoints, quota, runs
from kd.teachers.averaged import MeanTeacher
from kd.teachers.cached import CachedTeacher
from kd.training import clock

T = TypeVar("T")


class JobManager:
    """Starts, queues and commands jobs and shows them to pages. Any thread may call it.

    Args:
        source: where the data come from.
        tick: seconds between records.
        lease: seconds after which an unwatched job ends; None: never.
        patience: seconds that a paused or unwatched job keeps the worker while others wait.
    """

    def __init__(
        self,
        source: sources.Source,
        tick: float = TICK,
        lease: float | None = LEASE,
        patience: float = PATIENCE,
    ):
        self.source = source
        self._changed = threading.Condition()  # guards all jobs; notified of each command
        self._queue = JobQueue(lease, patience)
        self._teachers = TeacherCache()
        self._worker = Worker(self._queue, self._changed, source, self._teachers, tick)
        checkpoints.tidy()
        atexit.register(self.close)

    # -- starting --------------------------------------------------------------------

    def start(self, config: Settings, token: str, paused: bool = False) -> str:
        """Queue a run and return its id.

        Args:
            token: the owner's secret.
            paused: whether to pause before the first step, when the run's turn comes.

        Raises:
            UserError: the queue or the store is full, this owner has too many active jobs, only the
                presenter may start runs, or the teacher does not exist or does not fit the config.
        """
        owner = runs.owner_digest(token)
        if owner is None:
            raise UserError("This browser has no token yet; reload the page and press Start again.")
        permissions.check(owner, "start runs")
        config.for_visitors()
        quota.check(self.active())
        # Report a teacher that does not exist or does not fit the config now, not when training starts.
        teacher = self._teachers.of(config)
        if teacher is not None:
            kinds.of(config).check_teacher(config, teacher.architecture)
        id = runs.new_id()
        job = Job(id, config, owner, checkpoints.Keeper(id, owner), Viewers(clock.now()))
        if paused:
            job.commands.steps = BEFORE_FIRST_STEP
        self._enqueue(job)
        return id

    def _resume_interrupted(self, id: str, token: str) -> None:
        """Queue an interrupted run again, from its checkpoint."""
        owner = checkpoints.owned(id, token).owner
        assert owner is not None
        keeper = checkpoints.Keeper(id, owner)
        keeper.claim()
        try:
            kept = checkpoints.owned(id, token)  # again: another process could change it before the claim
            data, teacher = self.source.mnist(), self._teachers.of(kept.config)
            kept.check(data.digest, teacher.digest if teacher else None)
            job = Job(id, kept.config, owner, keeper, Viewers(clock.now()), resumed=True)
            job.progress.rows = kept.rows
            job.progress.changes = list(getattr(kept.config, "schedule", ()))
            self._enqueue(job)
        except BaseException:
            keeper.leave(ended=False)
            raise

    def _enqueue(self, job: Job) -> None:
        with self._changed:
            if self._worker.closed:
                raise UserError("The server is shutting down; start the run again in a minute.")
            self._queue.add(job)
            self._worker.ensure_started()
            self._changed.notify_all()

    # -- watching --------------------------------------------------------------------

    def snapshot(self, id: str, token: str | None = None, counts: bool = True) -> Snapshot | None:
        """Return the current state of the job, or None if there is no such job.

        Args:
            token: the viewer's secret.
            counts: whether to count the request as a viewer's and renew the job's lease.
        """
        with self._changed:
            job = self._queue.jobs.get(id)
            if job is None:
                return None
            viewer, now = runs.owner_digest(token), clock.now()
            if counts:
                job.viewers.look(viewer, now)
            return job.snapshot(viewer, self._queue.place(job), now)

    def under_way(self, token: str | None = None) -> list[Snapshot]:
        """Return all active jobs, without counting a viewer: first the running one, then the queued ones.

        Args:
            token: the visitor's secret, by which their own jobs are marked.
        """
        with self._changed:
            viewer, now = runs.owner_digest(token), clock.now()
            return [job.snapshot(viewer, self._queue.place(job), now) for job in self._queue.under_way()]

    def active(self) -> int:
        """Return how many jobs are queued, running or paused."""
        with self._changed:
            return self._queue.active()

    def busy(self) -> bool:
        """Return whether a job trains now or is about to; it would distort measured times."""
        with self._changed:
            return self._queue.busy()

    def look(self, id: str, read: Callable[[nn.Module], T]) -> dict[str, T]:
        """Return the result of ``read`` for each of the job's models, by name.

        The models are as they were at the last record; before the first one the result is
        empty. ``read`` must not keep any part of the models.
        """
        job = self._queue.jobs.get(id)
        return job.published.read(read) if job else {}

    def predict(self, id: str, inputs: Tensor) -> dict[str, Tensor]:
        """Return the logits (N, 10) of each of the job's models, by name, for ``inputs`` (N, 1, 28, 28)."""
        return self.look(id, lambda model: model(inputs.to(next(model.parameters()).device)).cpu())

    def teacher(self, name: str) -> CachedTeacher | MeanTeacher:
        """Return the teacher called ``name``, loaded once.

        Raises:
            UserError: there is no such teacher, or its file is damaged.
        """
        return self._teachers.get(name)

    def teacher_of(self, config: Settings) -> CachedTeacher | MeanTeacher | None:
        """Return the teacher that ``config`` names; None if runs of its kind have none.

        Raises:
            UserError: as teacher() does.
        """
        return self._teachers.of(config)

    # -- commands of the owner -------------------------------------------------------

    def pause(self, id: str, token: str) -> None:
        """Pause the job after its current step."""
        with self._commanded(id, token) as job:
            self._queue.pause(job, clock.now())

    def resume(self, id: str, token: str) -> None:
        """Continue a paused job, or resume an interrupted one from its checkpoint.

        Raises:
            UserError: the checkpoint is missing, damaged, somebody else's, in use or does not match the
                data or the teacher; the queue is full, the owner has too many active jobs, or only the
                presenter may resume runs.
        """
        with self._changed:
            job = self._queue.jobs.get(id)
        if job is None or job.state == "interrupted":
            self._resume_interrupted(id, token)
            return
        with self._commanded(id, token) as job:
            self._queue.resume(job)

    def step(self, id: str, token: str) -> None:
        """Make one optimizer step, then pause."""
        with self._commanded(id, token) as job:
            self._queue.step(job)

    def stop(self, id: str, token: str) -> None:
        """End the job, and measure and store its networks as they are. A presenter may end every job."""
        with self._commanded(id, token, presenter=True) as job:
            self._queue.stop(job, STOPPED)

    def reset(self, id: str, token: str) -> None:
        """End the job as stop() does, but do not keep what was learned in less than an epoch.

        It is given up to begin again, and a network of a few steps would only be in the way.
        """
        with self._commanded(id, token) as job:
            self._queue.reset(job)

    def change(self, id: str, token: str, name: str, value: float) -> None:
        """Change the temperature or the soft_weight from the next step on.

        Raises:
            UserError: the setting cannot change, the method does not use it, or the value is out of range.
        """
        if name not in LIVE_SETTINGS:
            raise UserError(f"Only {' and '.join(LIVE_SETTINGS)} can change during training.")
        value = check_live(name, value)
        with self._commanded(id, token) as job:
            if not job.kind.live or not job.active:
                return
            config: Any = job.config
            if not config.reads(name):
                raise UserError(unread(name, config.method))
            requested = job.commands.settings
            if len(job.progress.changes) + len({*requested, name}) > MAX_CHANGES:
                raise UserError(f"A run can hold at most {MAX_CHANGES} changes.")
            if job.progress.settings.get(name) != value or name in requested:
                requested[name] = value

    def save_again(self, id: str, token: str) -> None:
        """Try again to store a finished run that could not be stored.

        Raises:
            UserError: it still cannot be stored.
        """
        with self._commanded(id, token) as job:
            if job.experiment and not job.outcome.saved and job.state in ("done", "stopped"):
                job.save(job.state)
                job.set(job.state, job.outcome.message)
                job.experiment = None

    @contextlib.contextmanager
    def _commanded(self, id: str, token: str, presenter: bool = False) -> Iterator[Job]:
        """Check that the token is the owner's, yield the job under the lock, then notify the worker.

        Args:
            presenter: whether a presenter may give this command too.
        """
        with self._changed:
            job = self._queue.jobs.get(id)
            if job is None:
                raise UserError("This run is no longer there; press Reset.")
            who = runs.owner_digest(token)
            if job.owner != who and not (presenter and permissions.presenter(who)):
                raise UserError("Only the person who started this run can control it.")
            yield job
            job.commands.attention = True
            self._changed.notify_all()

    # -- the end ---------------------------------------------------------------------

    def close(self) -> None:
        """Stop the worker and wait until it has written a checkpoint of each job that has begun."""
        self._worker.close()
        self.source.close()  # so that the worker does not wait for data
        self._worker.join(5)
        atexit.unregister(self.close)
