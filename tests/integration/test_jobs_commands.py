"""Commands to a job: step, pause, resume and stop."""

import threading
import time

import pytest

from kd.errors import UserError
from kd.experiments.distil import Distillation
from kd.store import runs
from kd.training import loop
from tests.helpers import wait_until
from tests.jobs import (
    LONG,
    ME,
    OTHER,
    SHORT,
    directly,
    pause_after,
    same_as,
    settled,
    step,
    wait_for,
    wait_for_rows,
)


def test_job_started_paused_waits_before_its_first_step(manager, steps):
    id = manager.start(SHORT, ME, paused=True)
    snap = wait_for(manager, id, "paused")
    assert snap.rows == () and settled(steps) == 0


def test_step_is_exactly_one_optimizer_step(manager, steps):
    id = manager.start(SHORT, ME, paused=True)
    wait_for(manager, id, "paused")
    for count in range(1, 5):
        snap = step(manager, id)
        assert [row["step"] for row in snap.rows] == list(range(1, count + 1))
        assert settled(steps) == count


def test_each_press_of_step_counts(manager, steps):
    id = manager.start(SHORT, ME, paused=True)
    wait_for(manager, id, "paused")
    for _ in range(5):
        manager.step(id, ME)
    wait_until(lambda: (snap := manager.snapshot(id)).state == "paused" and len(snap.rows) == 5, "five steps")
    assert settled(steps) == 5


def test_step_during_training_pauses_after_it(manager, steps):
    id = manager.start(LONG, ME)
    wait_for_rows(manager, id)
    snap = step(manager, id)
    assert settled(steps) == snap.rows[-1]["step"]
    assert step(manager, id).rows[-1]["step"] == snap.rows[-1]["step"] + 1


def test_job_shows_paused_during_a_step_and_can_be_resumed(manager, monkeypatch):
    id = manager.start(SHORT, ME, paused=True)
    wait_for(manager, id, "paused")
    step(manager, id)
    taking, go_on, make = threading.Event(), threading.Event(), loop.Training._train

    def slowly(training, *args):
        taking.set()
        go_on.wait(30)
        return make(training, *args)

    monkeypatch.setattr(loop.Training, "_train", slowly)
    manager.step(id, ME)
    assert taking.wait(30) and manager.snapshot(id, ME).state == "paused"
    manager.resume(id, ME)
    assert manager.snapshot(id, ME).state == "running"
    go_on.set()
    wait_for(manager, id, "done")


def test_paused_job_stands_still_and_ends_with_the_same_weights(manage, mnist, steps):
    manager, config = manage(tick=0.0), SHORT.replace(epochs=8, batch_size=20)
    id = manager.start(config, ME)
    for _ in range(3):
        manager.resume(id, ME)
        wait_for_rows(manager, id, len(manager.snapshot(id).rows) + 3)
        manager.pause(id, ME)
        count = settled(steps)
        snap = wait_for(manager, id, "paused")
        assert snap.rows[-1]["step"] == count < 400
        time.sleep(0.1)
        assert len(steps) == count and manager.snapshot(id).rows == snap.rows
        assert step(manager, id).rows[-1]["step"] == count + 1
    manager.resume(id, ME)
    wait_for(manager, id, "done")
    assert len(steps) == 400
    assert same_as(runs.load(id), directly(config, mnist))


def test_pause_before_the_data_are_loaded_holds(manage, mnist, steps, monkeypatch):
    loading, go_on = threading.Event(), threading.Event()
    manager = manage(tick=1000.0)

    def slowly():
        loading.set()
        go_on.wait(30)
        return mnist

    monkeypatch.setattr(manager.source, "mnist", slowly)
    id = manager.start(SHORT, ME)
    loading.wait(30)
    manager.pause(id, ME)
    go_on.set()
    assert settled(steps) == 0 and wait_for(manager, id, "paused").rows == ()
    manager.resume(id, ME)
    wait_for(manager, id, "done")


def test_pause_cancels_a_step_that_was_not_made(manager, steps):
    id = manager.start(LONG, ME, paused=True)
    wait_for(manager, id, "paused")
    with manager._changed:  # the worker receives both commands together
        manager.step(id, ME)
        manager.pause(id, ME)
    assert settled(steps) == 0
    step(manager, id)
    assert settled(steps) == 1


def test_stopped_job_is_measured_and_stored(manager):
    id = manager.start(LONG, ME)
    wait_for_rows(manager, id)
    manager.stop(id, ME)
    snap = wait_for(manager, id, "stopped")
    run = runs.load(id)
    assert snap.saved and snap.message == "Stopped." and run.state == "stopped"
    assert run.measures["steps"] == snap.rows[-1]["step"] < 20_000


def test_paused_job_can_be_stopped(manager):
    id = manager.start(LONG, ME, paused=True)
    wait_for(manager, id, "paused")
    step(manager, id)
    manager.stop(id, ME)
    assert wait_for(manager, id, "stopped").saved
    assert runs.load(id).measures["steps"] == 1


def test_job_stopped_before_its_first_step_stores_nothing(manager, home):
    id = manager.start(SHORT, ME, paused=True)
    wait_for(manager, id, "paused")
    manager.stop(id, ME)
    snap = wait_for(manager, id, "stopped")
    manager.save_again(id, ME)
    assert not snap.saved and snap.measures == {} and runs.list_runs() == ([], [])


def test_reset_before_the_first_epoch_keeps_nothing(manager, home):
    id = pause_after(manager, LONG, steps=1)
    manager.reset(id, ME)
    wait_until(lambda: manager.snapshot(id, ME) is None, "the job is forgotten")
    assert runs.list_runs() == ([], []) and list(home.iterdir()) == []
    following = manager.start(SHORT, ME)
    wait_for(manager, following, "done")


def test_reset_after_an_epoch_stores_the_run(manager):
    id = manager.start(LONG, ME)
    wait_until(lambda: any(row["whole_validation"] for row in manager.snapshot(id, ME).rows), "an epoch")
    manager.reset(id, ME)
    assert wait_for(manager, id, "stopped").saved and runs.load(id).state == "stopped"


def test_reset_after_stop_stores_the_run(manager):
    id = pause_after(manager, LONG, steps=1)
    with manager._changed:  # the worker receives both commands together
        manager.stop(id, ME)
        manager.reset(id, ME)
    assert wait_for(manager, id, "stopped").saved


def test_commands_to_an_ended_job_do_nothing(manager):
    id = manager.start(SHORT, ME)
    done = wait_for(manager, id, "done")
    stored = runs.load(id)
    for command in (manager.pause, manager.resume, manager.step, manager.stop, manager.save_again):
        command(id, ME)
    manager.change(id, ME, "temperature", 9)
    next_id = manager.start(SHORT, ME)
    wait_for(manager, next_id, "done")
    assert manager.snapshot(id, ME) == done and runs.load(id) == stored


def test_only_the_owner_can_command_a_job(manager, steps):
    id = manager.start(SHORT, ME, paused=True)
    wait_for(manager, id, "paused")
    commands = [manager.pause, manager.resume, manager.step, manager.stop, manager.reset, manager.save_again]
    commands.append(lambda id, token: manager.change(id, token, "temperature", 9))
    for token in (OTHER, "", None, runs.owner_digest(ME)):
        for command in commands:
            with pytest.raises(UserError, match="Only the person who started this run can control it"):
                command(id, token)
    snap = manager.snapshot(id, OTHER)
    assert not snap.mine and not manager.snapshot(id).mine and snap.state == "paused" and len(steps) == 0
    assert step(manager, id).mine


@pytest.mark.parametrize("gives_way", [True, False])
def test_stopped_job_ends_once_despite_more_commands(manage, monkeypatch, gives_way):
    measuring, go_on = threading.Event(), threading.Event()
    real = Distillation.measures

    def slowly(self, last):
        measuring.set()
        go_on.wait(30)
        return real(self, last)

    manager = manage(patience=0.0)
    id = manager.start(LONG, ME, paused=True)
    wait_for(manager, id, "paused")
    step(manager, id)
    if gives_way:
        other = manager.start(LONG, OTHER)
        wait_for(manager, other, "running")
    monkeypatch.setattr(Distillation, "measures", slowly)
    with manager._changed:  # the worker receives all commands together
        for command in (manager.stop, manager.stop, manager.resume, manager.step, manager.stop):
            command(id, ME)
    measuring.wait(30)
    for command in (manager.stop, manager.resume, manager.step, manager.stop):
        command(id, ME)
    go_on.set()
    stopped = wait_for(manager, id, "stopped")
    if gives_way:
        manager.stop(other, OTHER)
    following = manager.start(SHORT, OTHER)
    wait_for(manager, following, "done")
    assert manager.snapshot(id, ME) == stopped and (stopped.message, stopped.saved) == (
        "Stopped.",
        True,
    )
    assert runs.load(id).measures["steps"] == 1
