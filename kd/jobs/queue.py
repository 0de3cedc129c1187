"""The queue of jobs, one training and others waiting or paused, as plain data without threads.

Callers hold the manager's lock and pass the time in, as seconds of a monotonic clock.
"""

from __future__ import annotations

from collections import deque

from kd.errors import UserError
from kd.jobs.job import BEFORE_FIRST_STEP, Job

LEASE = 180.0  # seconds without a viewer after which a job ends; hidden tabs poll once a minute
PATIENCE = 120.0  # seconds that a paused job keeps the worker while others wait
MAX_WAITING = 8
MAX_PER_OWNER = 3
# Of all owners: paused jobs do not wait but keep their memory, and a visitor can make any number of owners.
MAX_ACTIVE = 24
MAX_REMEMBERED = 20  # finished jobs kept in memory

STOPPED = "Stopped."
UNWATCHED = "Ended because nobody was watching."
GAVE_WAY = "Paused; others are training meanwhile. Resume puts it back into the queue."


class JobQueue:
    """All jobs of this process: the current one, which has the worker, those that wait, and all others.

    A job goes from queued to running when its turn comes, and between running and paused at its
    owner's command. While others wait, a paused job keeps the worker only until ``patience`` is
    over; after that, resuming puts it back into the queue.

    Args:
        lease: seconds without a viewer after which a job ends; None: it goes on unwatched.
        patience: seconds that a paused job keeps the worker while others wait.
    """

    def __init__(self, lease: float | None = LEASE, patience: float = PATIENCE):
        self._lease, self._patience = lease, patience
        self.jobs: dict[str, Job] = {}  # by id, oldest first
        self._waiting: deque[Job] = deque()
        self._current: Job | None = None

    def add(self, job: Job) -> None:
        """Put a job at the end of the queue.

        Raises:
            UserError: the queue is full, or the job's owner has enough jobs in it.
        """
        active = [other for other in self.jobs.values() if other.active]
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
        self.jobs[job.id] = job
        self._waiting.append(job)
        self._forget_finished()

    def _forget_finished(self) -> None:
        finished = [job for job in self.jobs.values() if not job.active]
        for job in finished[: max(0, len(finished) - MAX_REMEMBERED)]:
            del self.jobs[job.id]

    def place(self, job: Job) -> int:
        """Return the job's place in the queue: 1 is next, 0 means that it does not wait."""
        return self._waiting.index(job) + 1 if job in self._waiting else 0

    def active(self) -> int:
        """Return how many jobs train, are paused or wait."""
        return sum(job.active for job in self.jobs.values())

    def busy(self) -> bool:
        """Return whether a job trains or is about to.

        Paused jobs compute nothing, unless they are to be measured and stored.
        """
        return any(
            job.active and (job.state != "paused" or bool(job.commands.stop)) for job in self.jobs.values()
        )

    # -- commands of the owner -------------------------------------------------------

    def pause(self, job: Job, now: float) -> None:
        """Pause a job that trains; one that waits pauses as soon as it is its turn."""
        if job.state == "running":
            job.commands.steps = 0
            self._set_paused(job, now)
        elif job.state == "queued":
            job.commands.steps = BEFORE_FIRST_STEP

    def resume(self, job: Job) -> None:
        """Let a paused job go on."""
        job.commands.steps = 0
        if job.state == "paused":
            self._go_on(job)

    def step(self, job: Job) -> None:
        """Let a job make one more optimizer step, then pause it."""
        pauses_first = job.commands.steps == BEFORE_FIRST_STEP  # it waits for its turn, to pause there
        if job.state in ("paused", "running") or pauses_first:
            job.commands.steps = max(0, job.commands.steps) + 1
        if job.state == "paused":
            self._go_on(job)

    def _go_on(self, job: Job) -> None:
        """Set a paused job to running, or back into the queue if another one has the worker."""
        if job.commands.stop:
            return
        if self._current is job:
            job.set("running")
        else:
            job.set("queued")
            self._waiting.append(job)

    def stop(self, job: Job, why: str) -> None:
        """End an active job. The first reason counts.

        A job that has begun but does not have the worker goes to the front of the queue, to be
        measured and stored between two records of the current job. A job that has not begun ends
        at once; if it was to be resumed, it stays interrupted.
        """
        if not job.active or job.commands.stop:
            return
        job.commands.stop = why
        if job is not self._current:
            if job in self._waiting:
                self._waiting.remove(job)
            if job.begun:
                self._waiting.appendleft(job)
            elif job.resumed:  # as if it had not been resumed
                job.keeper.leave(ended=False)
                job.set("interrupted", why)
            else:
                job.set("stopped", why)
        job.commands.attention = True

    # -- what the worker asks and reports --------------------------------------------

    def expire(self, now: float) -> None:
        """End the jobs that nobody watches any more."""
        if not self._lease:
            return
        for job in self.jobs.values():
            if now - job.viewers.last_seen > self._lease:
                self.stop(job, UNWATCHED)

    def next(self, now: float) -> Job | None:
        """Return the job that the worker should go on with, or None.

        If no job has the worker, or a paused one has kept it for too long, the first that waits gets it.
        """
        if self._waiting and self._waiting[0].commands.stop:
            return self._waiting.popleft()
        job = self._current
        if job is not None and (job.state == "running" or job.commands.stop):
            return job
        if job is not None and job.state == "paused":
            if not self._waiting or now - job.paused_at < self._patience:
                return None
            job.message = GAVE_WAY
            job.version += 1
        self._current = self._waiting.popleft() if self._waiting else None
        if self._current is not None:
            self._current.set("running")
            for waiting in self._waiting:  # whose places have changed
                waiting.version += 1
        return self._current

    def may_go_on(self, job: Job, now: float) -> bool:
        """Return whether the worker may go on with ``job``: it is not paused, or it is to end.

        A job that was to pause as soon as it is its turn is paused here.
        """
        if job.commands.steps == BEFORE_FIRST_STEP and not job.commands.stop:
            job.commands.steps = 0
            self._set_paused(job, now)
        if job.state == "paused" and not job.commands.stop:
            return False
        job.commands.attention = False
        return True

    def step_done(self, job: Job, now: float) -> None:
        """Count down the steps that ``job`` was to make, and pause it after the last one."""
        if job.commands.steps > 0:
            job.commands.steps -= 1
            if job.commands.steps == 0 and job.state == "running":
                self._set_paused(job, now)

    def end(self, job: Job, state: str, message: str) -> None:
        """Set the final state of ``job``, and take the worker from it if it has it."""
        job.set(state, message)
        if self._current is job:
            self._current = None

    def _set_paused(self, job: Job, now: float) -> None:
        job.set("paused")
        job.paused_at = now
