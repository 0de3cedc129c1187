"""The viewers of a job: leases, viewer counts, and the pace of updates."""

import errno
import time

import pytest

from kd.jobs.job import MAX_COUNTED, Viewers
from kd.jobs.snapshot import pace
from kd.store import checkpoints, runs
from kd.training import clock
from tests.helpers import wait_until
from tests.jobs import (
    LONG,
    ME,
    OTHER,
    SHORT,
    directly,
    pause_after,
    same_as,
    wait_for,
    wait_for_rows,
)


def test_unwatched_job_ends_and_can_be_resumed(manage, mnist):
    manager = manage(lease=1.0)
    id = pause_after(manager, SHORT)
    waiting = manager.start(LONG, OTHER)
    wait_until(lambda: not manager.active(), "both leases end")
    snap = manager.snapshot(id, ME)
    assert (snap.state, snap.mine, snap.saved) == ("interrupted", True, False)
    assert snap.message == "Ended because nobody was watching. Resume continues from its last checkpoint."
    assert runs.list_runs() == ([], []) and {kept.id for kept in checkpoints.list_interrupted()[0]} >= {id}
    if checkpoints.exists(waiting):
        checkpoints.discard(waiting, OTHER)
    manager.resume(id, ME)
    wait_for(manager, id, "done")
    assert same_as(runs.load(id), directly(SHORT, mnist)) and not checkpoints.exists(id)


def test_unwatched_job_without_a_checkpoint_is_stored(manage, monkeypatch):
    manager = manage(lease=1.0)
    id = manager.start(LONG, ME)
    wait_for_rows(manager, id)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints, "save_file", full)
    wait_until(lambda: not manager.active(), "the lease ends")
    snap = manager.snapshot(id, ME)
    assert (snap.state, snap.saved) == ("stopped", True)
    assert snap.message == "Ended because nobody was watching."


def test_standstill_of_the_server_ends_no_job(manage, monkeypatch):
    manager = manage(lease=5.0)
    id = manager.start(LONG, ME)
    rows = len(wait_for_rows(manager, id).rows)
    read = clock._process._read
    monkeypatch.setattr(clock._process, "_read", lambda: read() + 1000.0)
    snap = wait_until(
        lambda: (now := manager.snapshot(id, counts=False)).rows[rows + 2 :] and now, "more records"
    )
    assert snap.active and snap.rows[-1]["seconds"] < 500


def test_watching_renews_the_lease(manage):
    manager = manage(lease=1.5)
    id = manager.start(LONG, ME)
    end = time.monotonic() + 2.2
    while time.monotonic() < end:
        assert manager.snapshot(id, OTHER).active
        time.sleep(0.05)


def test_pace_slows_with_the_square_root_of_the_viewers():
    assert [pace(viewers) for viewers in (0, 1, 4, 16, 100)] == [0.25, 0.25, 0.5, 1.0, 2.5]
    # Fifty viewers together request seven times as often as one, not fifty times.
    assert 50 / pace(50) == pytest.approx(50**0.5 / pace(1))


def test_recent_viewers_are_counted_once_each(manager, monkeypatch):
    id = manager.start(LONG, ME, paused=True)
    assert manager.snapshot(id, ME).viewers == 1
    assert [manager.snapshot(id, token).viewers for token in (OTHER, ME, OTHER, "a third")] == [2, 2, 2, 3]
    monkeypatch.setattr("kd.jobs.job.WATCHING", 0.05)
    time.sleep(0.1)
    assert manager.snapshot(id, OTHER).viewers == 1


def test_number_of_counted_viewers_is_bounded():
    """Tokens can be made up; the ones that look on must stay, and nobody is forgotten who looked just now."""
    viewers = Viewers(0.0)
    for i in range(10 * MAX_COUNTED):
        viewers.look(f"made up {i}", 1.0)
        viewers.look("the owner", 1.0)
    assert len(viewers.requests) == MAX_COUNTED and viewers.count(1.0) == MAX_COUNTED
    assert {"the owner", f"made up {10 * MAX_COUNTED - 1}"} <= viewers.requests.keys()


def test_uncounted_request_does_not_renew_the_lease(manage):
    manager = manage(lease=0.5)
    id = manager.start(LONG, ME)
    assert manager.snapshot(id, OTHER).viewers == 1
    end = time.monotonic() + 30
    while manager.snapshot(id, counts=False).active:
        assert manager.snapshot(id, counts=False).viewers <= 1 and time.monotonic() < end
        time.sleep(0.05)
    assert manager.snapshot(id, counts=False).message.startswith("Ended because nobody was watching.")


def test_spectator_follows_an_active_run(manager):
    id = manager.start(LONG, ME, paused=True)
    assert manager.snapshot(id, OTHER).followed and not manager.snapshot(id, ME).followed
    manager.stop(id, ME)
    wait_for(manager, id, "stopped")
    assert not manager.snapshot(id, OTHER).followed


def test_owner_sees_the_run_live_however_many_watch(manager):
    id = manager.start(LONG, ME, paused=True)
    for guest in range(15):
        manager.snapshot(id, f"guest {guest}")
    assert manager.snapshot(id, ME).pace == pace(1)
    assert manager.snapshot(id, "guest 3").pace == pace(16)
