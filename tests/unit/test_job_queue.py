"""The job queue alone: no threads, no training, and a clock that the tests set."""

import itertools

import pytest

from kd.config.distil import DistilConfig
from kd.errors import UserError
from kd.jobs.job import BEFORE_FIRST_STEP, Job, Viewers
from kd.jobs.queue import (
    GAVE_WAY,
    MAX_ACTIVE,
    MAX_PER_OWNER,
    MAX_REMEMBERED,
    MAX_WAITING,
    STOPPED,
    UNWATCHED,
    WENT_BACK,
    JobQueue,
)

_numbers = itertools.count()


class Claim:
    """A stand-in for checkpoints.Keeper that records calls."""

    def __init__(self):
        self.left = []

    def leave(self, ended):
        self.left.append(ended)


@pytest.fixture
def queue():
    return JobQueue(lease=None, patience=60.0)


def job_of(owner=None, resumed=False, now=0.0):
    number = next(_numbers)
    return Job(f"job {number}", DistilConfig(), owner or f"owner {number}", Claim(), Viewers(now), resumed)


def added(queue, *owners, **options):
    """Add a job for each of the owners and return them."""
    jobs = [job_of(owner, **options) for owner in owners]
    for job in jobs:
        queue.add(job)
    return jobs


def begin(queue, now=0.0):
    """Give the worker to the next job, as if its training had begun."""
    job = queue.next(now)
    job.records = iter(())
    return job


def paused(queue, now=0.0):
    """Return a new job that has begun, has the worker and is paused since ``now``."""
    (job,) = added(queue, "paused")
    assert begin(queue, now) is job
    queue.pause(job, now)
    return job


# -- order ----------------------------------------------------------------------------


def test_jobs_get_the_worker_in_order_of_arrival(queue):
    jobs = added(queue, "a", "b", "c")
    assert [queue.place(job) for job in jobs] == [1, 2, 3]
    for job in jobs:
        assert queue.next(0.0) is job and job.state == "running" and queue.place(job) == 0
        assert queue.next(0.0) is job, "the first job keeps the worker"
        queue.end(job, "done", "")
    assert queue.next(0.0) is None and queue.active() == 0


def test_versions_of_waiting_jobs_grow_as_they_move_up(queue):
    first, second, third = added(queue, "a", "b", "c")
    queue.next(0.0)
    assert (second.version, third.version) == (1, 1)
    queue.end(first, "done", "")
    queue.next(0.0)
    assert (second.version, third.version) == (2, 2)


def test_ended_job_gives_the_worker_back_and_keeps_its_message(queue):
    (job,) = added(queue, "a")
    queue.next(0.0)
    queue.end(job, "failed", "Out of memory.")
    assert (job.state, job.message) == ("failed", "Out of memory.") and queue.next(0.0) is None


# -- limits ---------------------------------------------------------------------------


def test_active_jobs_per_owner_are_limited(queue):
    jobs = added(queue, *["a"] * MAX_PER_OWNER)
    with pytest.raises(UserError, match="You already have 3 runs under way; stop one or wait"):
        queue.add(job_of("a"))
    queue.stop(jobs[1], STOPPED)
    queue.add(job_of("a"))


def test_waiting_jobs_are_limited(queue):
    added(queue, *map(str, range(MAX_WAITING)))
    with pytest.raises(UserError, match="8 runs are already waiting; try again when one has ended"):
        queue.add(job_of())
    queue.next(0.0)
    queue.add(job_of())


def test_active_jobs_are_limited_even_if_paused(queue):
    for number in range(MAX_ACTIVE):
        job = job_of()
        queue.add(job)
        assert begin(queue, now=100.0 * number) is job, "the patience for the paused job has ended"
        queue.pause(job, now=100.0 * number)
    assert queue.active() == MAX_ACTIVE
    with pytest.raises(UserError, match="24 runs are already under way, most of them paused; try again"):
        queue.add(job_of())


def test_refused_job_leaves_the_queue_unchanged(queue):
    added(queue, *["a"] * MAX_PER_OWNER)
    refused = job_of("a")
    with pytest.raises(UserError):
        queue.add(refused)
    assert refused.id not in queue.jobs and queue.place(refused) == 0 and queue.active() == MAX_PER_OWNER


def test_oldest_finished_jobs_are_forgotten(queue):
    jobs = []
    for _ in range(MAX_REMEMBERED + 3):
        jobs += added(queue, "a")
        queue.next(0.0)
        queue.end(jobs[-1], "done", "")
    (last,) = added(queue, "a")
    assert list(queue.jobs.values()) == [*jobs[3:], last]


# -- pause, resume and step -----------------------------------------------------------


def test_paused_job_keeps_the_worker_while_nobody_waits(queue):
    job = paused(queue)
    assert queue.next(1000.0) is None and job.state == "paused" and job.message == ""
    queue.resume(job)
    assert job.state == "running" and queue.next(1000.0) is job


def test_paused_job_gives_way_once_its_patience_ends(queue):
    job = paused(queue, now=10.0)
    (other,) = added(queue, "b")
    assert queue.next(69.9) is None and job.message == ""
    assert queue.next(70.0) is other
    assert (job.state, job.message) == ("paused", GAVE_WAY)


def test_resume_requeues_a_job_that_gave_way(queue):
    job = paused(queue)
    (other,) = added(queue, "b")
    assert queue.next(60.0) is other
    queue.resume(job)
    assert (job.state, job.message, queue.place(job)) == ("queued", "", 1)
    queue.end(other, "done", "")
    assert queue.next(60.0) is job and job.state == "running"


def test_step_ends_paused(queue):
    job = paused(queue)
    queue.step(job)
    assert job.state == "running" and queue.may_go_on(job, 5.0)
    queue.step_done(job, 5.0)
    assert (job.state, job.paused_at, job.commands.steps) == ("paused", 5.0, 0)


def test_steps_add_up_and_a_pause_cancels_them(queue):
    job = paused(queue)
    for _ in range(3):
        queue.step(job)
    assert job.commands.steps == 3
    queue.step_done(job, 0.0)
    assert (job.state, job.commands.steps) == ("running", 2)
    queue.pause(job, 0.0)
    assert (job.state, job.commands.steps) == ("paused", 0)


def test_steps_without_a_limit_never_pause(queue):
    (job,) = added(queue, "a")
    begin(queue)
    queue.step_done(job, 0.0)
    assert (job.state, job.commands.steps) == ("running", 0)


def test_pause_of_a_waiting_job_takes_effect_at_its_turn(queue):
    (job,) = added(queue, "a")
    queue.pause(job, 0.0)
    assert (job.state, job.commands.steps) == ("queued", BEFORE_FIRST_STEP)
    assert queue.next(3.0) is job and not queue.may_go_on(job, 3.0)
    assert (job.state, job.paused_at, job.commands.steps) == ("paused", 3.0, 0)


def test_resume_of_a_waiting_job_cancels_its_pause(queue):
    (job,) = added(queue, "a")
    queue.pause(job, 0.0)
    queue.resume(job)
    assert queue.next(0.0) is job and queue.may_go_on(job, 0.0) and job.state == "running"


def test_step_of_a_job_waiting_to_pause_is_its_first(queue):
    (job,) = added(queue, "a")
    queue.step(job)
    assert job.commands.steps == 0, "the job waits to train, not to pause"
    queue.pause(job, 0.0)
    queue.step(job)
    assert job.commands.steps == 1
    assert queue.next(0.0) is job and queue.may_go_on(job, 0.0)
    queue.step_done(job, 0.0)
    assert job.state == "paused"


def test_resume_clears_the_need_for_attention(queue):
    (job,) = added(queue, "a")
    begin(queue)
    job.commands.attention = True
    assert queue.may_go_on(job, 0.0) and not job.commands.attention


# -- stop -----------------------------------------------------------------------------


def test_first_reason_to_stop_counts(queue):
    (job,) = added(queue, "a")
    begin(queue)
    queue.stop(job, STOPPED)
    queue.stop(job, UNWATCHED)
    assert job.commands.stop == STOPPED and job.commands.attention
    assert job.state == "running" and queue.next(0.0) is job, "the worker ends the job"


def test_stopped_job_does_not_continue(queue):
    job = paused(queue)
    queue.stop(job, STOPPED)
    queue.resume(job)
    assert job.state == "paused" and queue.next(0.0) is job and queue.may_go_on(job, 0.0)


def test_waiting_job_that_has_not_begun_stops_at_once(queue):
    first, job, last = added(queue, "a", "b", "c")
    queue.stop(job, STOPPED)
    assert (job.state, job.message) == ("stopped", STOPPED) and job.keeper.left == []
    assert [queue.place(other) for other in (first, job, last)] == [1, 0, 2]


def test_stopped_waiting_job_that_was_resumed_stays_interrupted(queue):
    (job,) = added(queue, "a", resumed=True)
    queue.stop(job, STOPPED)
    assert (job.state, job.message) == ("interrupted", STOPPED)
    assert job.keeper.left == [False], "its checkpoint stays and can be claimed"


def test_stopped_job_that_gave_way_is_stored_first(queue):
    job = paused(queue)
    other, waiting = added(queue, "b", "c")
    assert queue.next(60.0) is other
    queue.stop(job, STOPPED)
    assert job.state == "paused" and queue.next(60.0) is job
    queue.end(job, "stopped", STOPPED)
    assert queue.next(60.0) is other and queue.place(waiting) == 1


def test_stopped_job_does_not_pause_at_its_turn(queue):
    job = paused(queue)
    (other,) = added(queue, "b")
    assert queue.next(60.0) is other
    queue.resume(job)
    queue.pause(job, 61.0)
    queue.stop(job, STOPPED)
    assert queue.next(61.0) is job and queue.may_go_on(job, 61.0) and job.state == "queued"


def test_stopping_an_ended_job_changes_nothing(queue):
    (job,) = added(queue, "a")
    queue.next(0.0)
    queue.end(job, "done", "")
    queue.stop(job, STOPPED)
    assert (job.state, job.commands.stop) == ("done", "")


# -- leases and the busy state ---------------------------------------------------------


def test_unwatched_job_expires():
    queue = JobQueue(lease=10.0)
    watched, unwatched = added(queue, "a", "b", now=100.0)
    watched.viewers.look("a", 105.0)
    queue.expire(110.0)
    assert watched.active and unwatched.active, "the lease has not expired yet"
    queue.expire(110.1)
    assert watched.active and (unwatched.state, unwatched.message) == ("stopped", UNWATCHED)


def test_jobs_without_a_lease_never_expire(queue):
    (job,) = added(queue, "a")
    queue.expire(1e9)
    assert job.active


def test_queue_is_busy_unless_all_jobs_are_paused(queue):
    assert not queue.busy()
    job = paused(queue)
    assert not queue.busy() and queue.active() == 1
    (waiting,) = added(queue, "b")
    assert queue.busy(), "a waiting job may start at any moment"
    queue.stop(waiting, STOPPED)
    assert not queue.busy()
    queue.stop(job, STOPPED)
    assert queue.busy(), "a stopped job is still measured and stored"
    queue.end(job, "stopped", STOPPED)
    assert not queue.busy()


def test_job_shows_paused_during_a_step_after_its_first_record(queue):
    job = paused(queue)
    queue.step(job)
    assert job.shown_state == "running", "there is no record to show yet"
    job.progress.last = object()
    assert job.shown_state == "paused"
    queue.resume(job)
    assert job.shown_state == "running"


# -- yielding --------------------------------------------------------------------------


def test_unwatched_job_yields_after_two_minutes_if_others_wait():
    queue = JobQueue()  # with the lease and patience of the app
    (job,) = added(queue, "a")
    assert begin(queue) is job
    (other,) = added(queue, "b")
    other.viewers.look("b", 115.0)
    queue.expire(120.0)
    assert queue.next(120.0) is job and job.state == "running"
    queue.expire(120.1)
    assert queue.next(120.1) is other
    assert (job.state, job.message, queue.place(job)) == ("queued", WENT_BACK, 1)
    queue.end(other, "done", "")
    assert queue.next(130.0) is job and job.state == "running" and job.message == "", "nothing is lost"


def test_watched_job_keeps_the_worker_while_others_wait():
    queue = JobQueue()
    (job,) = added(queue, "a")
    begin(queue)
    (other,) = added(queue, "b")
    for now in range(0, 600, 60):  # a hidden tab asks once a minute
        job.viewers.look("a", float(now))
        other.viewers.look("b", float(now))
        queue.expire(float(now))
        assert queue.next(float(now)) is job


def test_unwatched_job_does_not_yield_to_unwatched_ones():
    queue = JobQueue()
    (job,) = added(queue, "a")
    begin(queue)
    added(queue, "b")
    queue.expire(150.0)
    assert queue.next(150.0) is job, "both would only take turns"


def test_job_that_is_being_stopped_does_not_yield():
    queue = JobQueue()
    (job,) = added(queue, "a")
    begin(queue)
    queue.stop(job, STOPPED)
    (other,) = added(queue, "b")
    other.viewers.look("b", 121.0)
    queue.expire(121.0)
    assert queue.next(121.0) is job


def test_jobs_under_way_are_listed_in_the_order_of_training(queue):
    old = paused(queue)
    running, first, second = added(queue, "a", "b", "c")
    assert queue.next(60.0) is running
    ended = job_of()
    queue.jobs[ended.id] = ended
    ended.set("done")
    assert queue.under_way() == [running, first, second, old]
