"""The queue of jobs as plain data without threads: one job trains, others wait or are paused.

Callers hold the manager's lock and pass the time in, as seconds of a monotonic clock.
"""

from __future__ import annotations

from collections import deque

from kd.errors import UserError
from kd.jobs.job import BEFORE_FIRST_STEP, Job

LEASE = 180.0  # seconds without a viewer after which a job ends; hidden tabs poll once a minute
PATIENCE = 120.0  # seconds that a paused or unwatched job keeps the worker while others wait
MAX_WAITING = 8
MAX_PER_OWNER = 3
# Over all owners: paused jobs keep their memory, and one visitor can appear as any number of owners.
MAX_ACTIVE = 24
MAX_REMEMBERED = 20  # finished jobs kept in memory

STOPPED = "Stopped."
UNWATCHED = "Ended because nobody was watching."
GAVE_WAY = "Paused so that others can train. Resume puts this run back in the queue."
WENT_BACK = "Nobody was watching and others waited, so this run went back in the queue."


class JobQueue:
    """All jobs of this process: the current one, which has the worker, the queued ones and all others.

    A job goes from queued to running when its turn comes; its owner can pause and resume it. While
    others wait, a paused job keeps the worker for at most ``patience`` seconds; after that,
    resuming puts it back in the queue. A running job that nobody has watched for so long goes to
    the end of the queue if somebody watches one of the others.

    Args:
        lease: seconds without a viewer after which a job ends; None: never.
        patience: seconds that a paused or unwatched job keeps the worker while others wait.
    """

    def __init__(self, lease: float | None = LEASE, patience: float = PATIENCE):
        self._lease, self._patience = lease, patience
        self.jobs: dict[str, Job] = {}  # by id, oldest first
        self._waiting: deque[Job] = deque()
        self._current: Job | None = None

    def add(self, job: Job) -> None:
        """Put a job at the end of the queue.

        Raises:
            UserError: the queue is full, or the job's owner has too many active jobs.
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
        """Return the job's place in the queue: 1 is next, 0 if it is not queued."""
        return self._waiting.index(job) + 1 if job in self._waiting else 0

    def active(self) -> int:
        """Return how many jobs are queued, running or paused."""
        return sum(job.active for job in self.jobs.values())

    def under_way(self) -> list[Job]:
        """Return the active jobs: the running one, the queued ones in their order, then the paused ones."""
        order = ("running", "queued", "paused")
        active = [job for job in self.jobs.values() if job.active]
        return sorted(active, key=lambda job: (order.index(job.state), self.place(job)))

    def busy(self) -> bool:
        """Return whether a job trains now or is about to.

        Paused jobs compute nothing, unless they are being stopped: then they are measured and stored.
        """
        return any(
            job.active and (job.state != "paused" or bool(job.commands.stop)) for job in self.jobs.values()
        )

    # -- commands of the owner -------------------------------------------------------

    def pause(self, job: Job, now: float) -> None:
        """Pause a running job. A queued one is paused when its turn comes."""
        if job.state == "running":
            job.commands.steps = 0
            self._set_paused(job, now)
        elif job.state == "queued":
            job.commands.steps = BEFORE_FIRST_STEP

    def resume(self, job: Job) -> None:
        """Continue a paused job."""
        job.commands.steps = 0
        if job.state == "paused":
            self._go_on(job)

    def step(self, job: Job) -> None:
        """Let a job make one more optimizer step, then pause it."""
        pauses_first = job.commands.steps == BEFORE_FIRST_STEP  # queued, to be paused when its turn comes
        if job.state in ("paused", "running") or pauses_first:
            job.commands.steps = max(0, job.commands.steps) + 1
        if job.state == "paused":
            self._go_on(job)

    def _go_on(self, job: Job) -> None:
        """Set a paused job to running, or put it back in the queue if another job has the worker."""
        if job.commands.stop:
            return
        if self._current is job:
            job.set("running")
        else:
            job.set("queued")
            self._waiting.append(job)

    def stop(self, job: Job, why: str) -> None:
        """End an active job. If it is already being stopped, the first reason is kept.

        A job that has begun but does not have the worker goes to the front of the queue, to be
        measured and stored between two records of the current job. A job that has not begun ends
        at once; if it was queued to resume from a checkpoint, it is interrupted again.
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

    def reset(self, job: Job) -> None:
        """End an active job, and do not keep what it learned in less than an epoch."""
        if job.active and not job.commands.stop:
            job.commands.reset = True
            self.stop(job, STOPPED)

    # -- for the worker --------------------------------------------------------------

    def expire(self, now: float) -> None:
        """End the jobs that nobody watches any more; before that, they yield to those that wait."""
        if not self._lease:
            return
        self._yield_unwatched(now)
        for job in self.jobs.values():
            if now - job.viewers.last_seen > self._lease:
                self.stop(job, UNWATCHED)

    def _yield_unwatched(self, now: float) -> None:
        """Put the running job back in the queue if nobody watches it while others are watched and wait."""
        job = self._current
        if job is None or job.state != "running" or job.commands.stop or self._watched(job, now):
            return
        if any(self._watched(other, now) for other in self._waiting):
            job.set("queued", WENT_BACK)
            self._waiting.append(job)
            self._current = None

    def _watched(self, job: Job, now: float) -> bool:
        return now - job.viewers.last_seen <= self._patience

    def next(self, now: float) -> Job | None:
        """Return the job that the worker should train next, or None.

        If no job has the worker, or a paused one has kept it for too long, the next in the queue gets it.
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
            for waiting in self._waiting:  # their places in the queue have changed
                waiting.version += 1
        return self._current

    def may_go_on(self, job: Job, now: float) -> bool:
        """Return whether the worker may continue ``job``: it is not paused, or it is being stopped.

        A job that should pause when its turn comes is paused here.
        """
        if job.commands.steps == BEFORE_FIRST_STEP and not job.commands.stop:
            job.commands.steps = 0
            self._set_paused(job, now)
        if job.state == "paused" and not job.commands.stop:
            return False
        job.commands.attention = False
        return True

    def step_done(self, job: Job, now: float) -> None:
        """Count a step of ``job``, and pause the job if it was the last of a limited number."""
        if job.commands.steps > 0:
            job.commands.steps -= 1
            if job.commands.steps == 0 and job.state == "running":
                self._set_paused(job, now)

    def end(self, job: Job, state: str, message: str) -> None:
        """Set the final state of ``job``, and free the worker if the job has it."""
        job.set(state, message)
        if self._current is job:
            self._current = None

    def forget(self, job: Job) -> None:
        """End a job of which nothing is kept."""
        self.end(job, "stopped", STOPPED)
        del self.jobs[job.id]

    def _set_paused(self, job: Job, now: float) -> None:
        job.set("paused")
        job.paused_at = now
