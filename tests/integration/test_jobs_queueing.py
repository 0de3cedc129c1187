"""Jobs that wait for each other; tests/unit/test_job_queue.py tests the queue alone."""

import threading
import time

import pytest

from kd.errors import UserError
from kd.experiments.distil import Distillation
from kd.jobs.queue import MAX_PER_OWNER, MAX_WAITING
from kd.store import runs
from tests.helpers import Given
from tests.jobs import LONG, ME, OTHER, SHORT, directly, same_as, settled, step, wait_for, wait_for_rows


def test_jobs_run_one_after_the_other_in_order(manager, monkeypatch):
    started = []
    real = Distillation.__init__

    def noted(self, config, *args):
        started.append(config.seed)
        real(self, config, *args)

    monkeypatch.setattr(Distillation, "__init__", noted)
    first = manager.start(LONG, ME)
    wait_for_rows(manager, first)
    ids = [manager.start(SHORT.replace(seed=seed), f"token {seed}") for seed in (3, 1, 2)]
    assert [manager.snapshot(id).place for id in ids] == [1, 2, 3] and manager.snapshot(first).place == 0
    assert [manager.snapshot(id).state for id in ids] == ["queued"] * 3 and manager.active() == 4
    manager.stop(ids[1], "token 1")
    assert [manager.snapshot(id).place for id in ids] == [1, 0, 2] and manager.snapshot(
        ids[1]
    ).state == "stopped"
    manager.stop(first, ME)
    for id in (ids[0], ids[2]):
        assert wait_for(manager, id, "done").place == 0
    assert started == [0, 3, 2] and {run.id for run in runs.list_runs()[0]} == {first, ids[0], ids[2]}


def test_queue_and_jobs_per_owner_are_bounded(manager):
    ids = [manager.start(LONG, ME, paused=True) for _ in range(MAX_PER_OWNER)]
    wait_for(manager, ids[0], "paused")
    with pytest.raises(UserError, match="You already have 3 runs under way; stop one or wait for it to end"):
        manager.start(LONG, ME)
    for number in range(MAX_WAITING - 2):
        manager.start(LONG, f"token {number}")
    with pytest.raises(UserError, match="8 runs are already waiting; try again when one has ended"):
        manager.start(LONG, OTHER)
    manager.stop(ids[-1], ME)
    manager.start(LONG, OTHER)


def test_manager_is_busy_unless_all_jobs_are_paused(manage, monkeypatch):
    data = threading.Event()  # until it is set, the worker waits for the data, however slow this thread is
    monkeypatch.setattr(Given, "mnist", lambda given: data.wait(60) and given._mnist)
    manager = manage(patience=60.0)
    assert not manager.busy()
    first = manager.start(LONG, ME, paused=True)
    assert manager.busy()
    data.set()
    wait_for(manager, first, "paused")
    assert not manager.busy() and manager.active() == 1
    second = manager.start(SHORT, OTHER)
    assert manager.busy(), "a waiting job may start at any moment"
    manager.stop(second, OTHER)
    assert not manager.busy()
    manager.resume(first, ME)
    assert manager.busy()
    manager.stop(first, ME)
    wait_for(manager, first, "stopped")
    assert not manager.busy()


def test_paused_job_keeps_the_worker_while_patience_lasts(manage):
    manager = manage(patience=60.0)
    first = manager.start(SHORT, ME, paused=True)
    wait_for(manager, first, "paused")
    second = manager.start(SHORT, OTHER)
    time.sleep(0.7)
    assert manager.snapshot(second).state == "queued" and manager.snapshot(first).message == ""
    manager.resume(first, ME)
    wait_for(manager, second, "done")
    assert manager.snapshot(first).state == "done"


def test_paused_job_gives_way_and_later_ends_with_same_weights(manage, mnist):
    manager = manage(patience=0.2)
    first = manager.start(SHORT, ME, paused=True)
    wait_for(manager, first, "paused")
    for _ in range(3):
        step(manager, first)
    second = manager.start(SHORT.replace(seed=1), OTHER)
    wait_for(manager, second, "done")
    snap = manager.snapshot(first, ME)
    assert (
        snap.state == "paused"
        and snap.message == "Paused so that others can train. Resume puts this run back in the queue."
    )
    third = manager.start(LONG, OTHER)
    wait_for(manager, third, "running")
    manager.resume(first, ME)
    assert (manager.snapshot(first).state, manager.snapshot(first).place) == ("queued", 1)
    manager.stop(third, OTHER)
    wait_for(manager, first, "done")
    assert same_as(runs.load(first), directly(SHORT, mnist))


def test_job_that_gave_way_can_make_one_step(manage, steps):
    manager = manage(patience=0.0)
    first = manager.start(LONG, ME, paused=True)
    wait_for(manager, first, "paused")
    second = manager.start(SHORT, OTHER)
    wait_for(manager, second, "done")
    assert len(steps) == 20
    assert step(manager, first).rows[-1]["step"] == 1 and settled(steps) == 21


def test_job_that_gave_way_is_stored_as_soon_as_it_is_stopped(manage):
    manager = manage(patience=0.0)
    first = manager.start(LONG, ME, paused=True)
    wait_for(manager, first, "paused")
    step(manager, first)
    second = manager.start(LONG, OTHER)
    wait_for(manager, second, "running")
    manager.stop(first, ME)
    assert wait_for(manager, first, "stopped").saved
    assert manager.snapshot(second).state == "running" and manager.active() == 1
    assert runs.load(first).measures["steps"] == 1
