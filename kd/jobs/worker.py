"""The one thread that trains. It never touches Streamlit: pages give commands and read snapshots."""

from __future__ import annotations

import contextlib
import logging
import threading

from kd.data import sources
from kd.errors import UserError
from kd.jobs.job import Job
from kd.jobs.queue import UNWATCHED, JobQueue
from kd.jobs.snapshot import TICK
from kd.jobs.teacher_cache import TeacherCache
from kd.store import checkpoints
from kd.training import clock, memory
from kd.training.loop import Diverged, Record

FAILED = "Training failed because of an error in the program. The server's log has the details."
log = logging.getLogger(__name__)


class Worker:
    """Trains the jobs of a queue, one at a time, and follows commands between two optimizer steps.

    Args:
        queue: the jobs, read and changed under ``changed``.
        changed: the manager's lock, notified of each command.
        source: where the data come from.
        tick: seconds between records.
    """

    def __init__(
        self,
        queue: JobQueue,
        changed: threading.Condition,
        source: sources.Source,
        teachers: TeacherCache,
        tick: float = TICK,
    ):
        self._queue, self._changed = queue, changed
        self._source, self._teachers, self._tick = source, teachers, tick
        self._thread: threading.Thread | None = None
        self._due_at = 0.0  # time of the next record
        self.closed = False

    def ensure_started(self) -> None:
        """Start the thread if it is not running. Call it under the lock."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._work, name="kd-worker", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Tell the thread to write a checkpoint of each job that has begun, and to end."""
        with self._changed:
            self.closed = True
            for job in self._queue.jobs.values():
                job.commands.attention = True
            self._changed.notify_all()

    def join(self, seconds: float) -> None:
        """Wait until the thread has ended, for at most ``seconds``."""
        if self._thread is not None:
            self._thread.join(seconds)

    # -- the thread ------------------------------------------------------------------

    def _work(self) -> None:
        while (job := self._wait_for_job()) is not None:
            try:
                self._advance(job)
            except UserError as error:
                self._fail(job, str(error))
            except Exception as error:
                log.exception("job %s failed", job.id)
                self._fail(job, memory.OUT_OF_MEMORY if memory.ran_out(error) else FAILED)
        for job in self._queue.jobs.values():
            if job.active and job.progress.last is not None:
                self._follow_changes(job)
                self._keep_checkpoint(job)
            self._close_records(job)
            job.keeper.leave(ended=False)

    def _wait_for_job(self) -> Job | None:
        """Wait for a job to train, and return it; return None if the worker is closing."""
        with self._changed:
            self._queue.expire(clock.now())
            while not self.closed and (job := self._queue.next(clock.now())) is None:
                self._changed.wait(0.5)
                self._queue.expire(clock.now())
            return None if self.closed else job

    def _advance(self, job: Job) -> None:
        """Train ``job`` up to its next record, or end it."""
        if not job.begun:
            self._begin(job)
        assert job.records is not None and job.experiment is not None
        with self._changed:
            if not self._queue.may_go_on(job, clock.now()):
                return
        if job.commands.stop:
            self._stop(job)
            return
        self._follow_changes(job)
        last = job.progress.last
        # The first record comes after a single step, so that the charts start at once.
        self._due_at = clock.now() + (self._tick if last else 0)
        try:
            record = next(job.records)
        except StopIteration:
            self._finish(job, "done", "")
            return
        except Diverged as error:  # it would diverge again: end at the last record
            if last is None:
                raise
            self._finish(job, "stopped", f"{error} The networks of step {last.step:,} are kept.")
            return
        job.published.publish(job.experiment.trained)
        with self._changed:
            job.progress.add(record)
            job.version += 1
            self._queue.step_done(job, clock.now())
            paused = job.state == "paused"
        # Write a checkpoint at the first record, so that the run can be resumed from then on.
        first = last is None and record.step < record.steps
        if not job.commands.stop and (paused or first or job.keeper.due(record)):
            self._keep_checkpoint(job)

    def _begin(self, job: Job) -> None:
        """Build the experiment, and restore its checkpoint if the job is resumed."""
        mnist = self._source.mnist()
        kept = checkpoints.load(job.id) if job.resumed else None
        experiment = job.kind.build(job.config, mnist, self._teachers.of(job.config))
        experiment.owner = job.owner
        if kept:
            kept.check(mnist.digest, experiment.reference.digest if experiment.reference else None)
        records = experiment.records(lambda step: self._due(job), kept.state if kept else None)
        with self._changed:
            job.experiment, job.records = experiment, records
            progress = job.progress
            progress.changes = list(getattr(job.config, "schedule", ()))
            progress.settings, progress.source = dict(experiment.training.settings), mnist.source
            if kept:
                progress.last = _last_record(kept.rows[-1], experiment.training.steps)
                progress.steps = progress.last.steps
        if kept:
            job.published.publish(experiment.trained)

    def _due(self, job: Job) -> bool:
        """Return whether a record is due after this step."""
        commands = job.commands
        return commands.steps > 0 or commands.attention or self.closed or clock.now() >= self._due_at

    def _follow_changes(self, job: Job) -> None:
        """Apply the changes that the owner requested since the last record."""
        assert job.experiment is not None and job.experiment.training is not None
        training = job.experiment.training
        with self._changed:
            settings, job.commands.settings = job.commands.settings, {}
            if settings:
                job.progress.change(training.step, settings)
                job.version += 1
        training.settings.update(settings)

    def _keep_checkpoint(self, job: Job) -> None:
        """Write a checkpoint. If that fails, the page says so and the training goes on."""
        assert job.experiment is not None
        problem = job.keeper.keep(job.experiment, job.config_so_far, job.progress.rows)
        if problem:
            problem += " Training continues, but unsaved progress is lost if the server stops."
        with self._changed:
            if problem and not job.warning:
                log.warning("run %s: %s", job.id, problem)
            job.version += problem != job.warning
            job.warning = problem

    # -- the end of a job ------------------------------------------------------------

    def _stop(self, job: Job) -> None:
        """End a job that was told to: store it, leave its checkpoint, or forget it."""
        if job.commands.reset and not job.progress.finished_epoch:
            self._close_records(job)
            with self._changed:
                job.keeper.leave(ended=True)
                self._queue.forget(job)
                self._changed.notify_all()
            return
        if job.commands.stop == UNWATCHED and job.progress.last is not None:
            self._follow_changes(job)
            self._keep_checkpoint(job)
            if not job.warning:
                self._fail(job, UNWATCHED)
                return
        self._finish(job, "stopped", job.commands.stop)

    def _finish(self, job: Job, state: str, message: str) -> None:
        """Measure and store a job that has finished or was stopped."""
        assert job.records is not None and job.experiment is not None
        job.records.close()
        if job.progress.last is None:  # stopped before its first record: nothing to store
            self._end(job, "stopped", message)
            return
        with self._changed:
            job.set(job.state, "Measuring on the test set…")
        job.outcome.measures, job.outcome.message = job.experiment.measures(job.progress.last), message
        try:
            job.save(state)
        except UserError as error:
            message = f"{message} {error}".strip()
        self._end(job, state, message)

    def _fail(self, job: Job, message: str) -> None:
        """End a job that did not finish. It can be resumed if it has a checkpoint."""
        self._close_records(job)
        state = "failed"
        if job.keeper.kept:
            state, message = "interrupted", f"{message} Resume continues from its last checkpoint."
        job.keeper.leave(ended=False)
        self._end(job, state, message)

    def _end(self, job: Job, state: str, message: str) -> None:
        with self._changed:
            self._queue.end(job, state, message)
            job.records, job.warning = None, ""
            can_be_saved_again = (
                not job.outcome.saved
                and state not in ("failed", "interrupted")
                and job.progress.last is not None
            )
            if not can_be_saved_again:
                job.experiment = None
            self._changed.notify_all()

    @staticmethod
    def _close_records(job: Job) -> None:
        """Let the training release its resources, whatever state it is in."""
        if job.records is not None:
            with contextlib.suppress(Exception):
                job.records.close()


def _last_record(row: dict[str, float], steps: int) -> Record:
    """Return the last record of a resumed training, as far as its row in the checkpoint holds it."""
    return Record(int(row["step"]), steps, row["epoch"], row["seconds"], 0.0, {}, {}, {}, False)
