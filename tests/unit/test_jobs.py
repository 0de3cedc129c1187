"""The background worker: commands, the queue, leases, and what is stored of all that."""

import atexit
import dataclasses
import errno
import shutil
import threading
import time

import pytest
import torch

from kd import paths
from kd.config.distil import DistilConfig
from kd.config.teacher import TeacherConfig
from kd.errors import UserError
from kd.experiments import base
from kd.experiments.base import Distillation
from kd.jobs.manager import MAX_PER_OWNER, MAX_WAITING, JobManager, pace
from kd.models import inference, registry
from kd.store import checkpoints, runs
from kd.training import loop
from kd.training.threads import _Other
from tests.helpers import Given, identical, small_teacher, threads, wait_until, weights

ME, OTHER = "my token", "another token"
SHORT = DistilConfig(student="mlp-30", epochs=2, batch_size=100)  # 20 steps
LONG = SHORT.replace(epochs=200, batch_size=10)  # 20,000 steps: does not end by itself


@pytest.fixture(autouse=True)
def alone(home, monkeypatch):
    """The teacher is a small one, and no thread outlives a test but those that rest until they are used again."""
    monkeypatch.setattr("kd.teachers.catalogue.load", lambda name, device="cpu": small_teacher())
    before = set(threading.enumerate())
    yield
    left = set(threading.enumerate()) - before - set(_Other._resting)
    assert not [thread for thread in left if thread.name.startswith(("kd-", "mnist-"))]


@pytest.fixture
def manage(mnist):
    made = []

    def make(**options):
        made.append(JobManager(Given(mnist), **{"tick": 0.05, "lease": None, "patience": 60.0} | options))
        return made[-1]

    yield make
    for manager in made:
        manager.close()


@pytest.fixture
def manager(manage):
    return manage()


@pytest.fixture
def steps(monkeypatch):
    """Counts the optimizer steps of all jobs."""
    counted = []

    def counting(training, *args):
        counted.append(1)
        return make(training, *args)

    make = loop.Training._train
    monkeypatch.setattr(loop.Training, "_train", counting)
    return counted


def wait_for(manager, id, state):
    def reached():
        snap = manager.snapshot(id, ME)
        assert snap.active or snap.state == state, f"{snap.state}: {snap.message}"
        return snap if snap.state == state else None

    return wait_until(reached, state)


def wait_for_rows(manager, id, count=1):
    return wait_until(lambda: len((snap := manager.snapshot(id, ME)).rows) >= count and snap, "rows")


def settled(counted):
    """The number of steps once it grows no more."""
    while True:
        before = len(counted)
        time.sleep(0.25)
        if len(counted) == before:
            return before


def step(manager, id):
    """One press of Step, and the snapshot after it."""
    before = len(manager.snapshot(id).rows)
    manager.step(id, ME)
    return wait_until(
        lambda: (snap := manager.snapshot(id, ME)).state == "paused" and len(snap.rows) > before and snap,
        "a step",
    )


def directly(config, mnist):
    """The weights that a config gives without the worker."""
    running = Distillation(config, mnist, small_teacher())
    for _ in running.records():
        pass
    return {name: weights(model) for name, model in running.trained.items()}


def same_as(run, expected):
    return all(identical(run.model(which), values) for which, values in expected.items())


# -- from start to end ----------------------------------------------------------------------


def test_a_job_runs_to_its_end_and_is_stored(manager, mnist):
    id = manager.start(SHORT, ME)
    snap = wait_for(manager, id, "done")
    assert (
        (snap.kind, snap.config, snap.message, snap.source) == ("distil", SHORT, "", "sample")
        and snap.saved
        and snap.mine
    )
    assert snap.steps == 20 and snap.rows[-1]["step"] == 20 and snap.rows[-1]["epoch"] == 2
    run = runs.load(id)
    assert (run.state, run.config, run.owner) == ("done", SHORT, runs.owner_digest(ME))
    assert tuple(run.metrics()) == snap.rows and run.measures == snap.measures
    assert set(run.measures["models"]) == {"teacher", "student", "control"}
    assert same_as(run, directly(SHORT, mnist))
    assert manager.active() == 0


def test_a_teacher_can_be_trained_too(manager):
    config = TeacherConfig(teacher="mlp-30", epochs=1, batch_size=100, augmentation="jitter")
    id = manager.start(config, ME)
    snap = wait_for(manager, id, "done")
    assert snap.kind == "teacher" and set(snap.measures["models"]) == {"teacher"}
    assert runs.load(id).config == config


def test_the_measures_are_those_of_the_stored_models_on_the_test_set(manager, mnist):
    id = manager.start(SHORT, ME)
    measures = wait_for(manager, id, "done").measures
    assert measures["data"] == mnist.digest and measures["test_images"] == 200 and measures["steps"] == 20
    for which in ("student", "control"):
        wrong = (
            inference.logits_in_chunks(runs.load(id).model(which), mnist.test.inputs()).argmax(1)
            != mnist.test.labels
        ).sum()
        assert measures["models"][which]["test_errors"] == wrong


def test_the_snapshots_version_grows_with_each_change(manager):
    id = manager.start(SHORT, ME, paused=True)
    versions = [wait_for(manager, id, "paused").version, step(manager, id).version]
    manager.change(id, ME, "temperature", 9)
    versions.append(step(manager, id).version)
    manager.resume(id, ME)
    versions.append(wait_for(manager, id, "done").version)
    assert versions == sorted(set(versions))


def test_an_unknown_job_has_no_snapshot_and_takes_no_command(manager):
    assert manager.snapshot("nobody") is None and manager.predict("nobody", torch.zeros(1, 1, 28, 28)) == {}
    with pytest.raises(UserError, match="no longer there"):
        manager.stop("nobody", ME)


# -- step, pause, resume, stop -----------------------------------------------------------------


def test_a_job_started_paused_waits_before_its_first_step(manager, steps):
    id = manager.start(SHORT, ME, paused=True)
    snap = wait_for(manager, id, "paused")
    assert snap.rows == () and settled(steps) == 0


def test_one_step_is_exactly_one_optimizer_step(manager, steps):
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


def test_a_paused_job_counts_as_paused_while_one_step_is_taken_and_goes_on_when_told_to_meanwhile(
    manager, monkeypatch
):
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


def test_a_paused_job_stands_still_and_ends_as_if_it_had_not_been_paused(manage, mnist, steps):
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


def test_a_pause_holds_even_when_it_comes_before_the_data_are_there(manage, mnist, steps, monkeypatch):
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


def test_a_pause_forgets_a_step_that_was_not_made(manager, steps):
    id = manager.start(LONG, ME, paused=True)
    wait_for(manager, id, "paused")
    with manager._changed:  # the worker sees both at once
        manager.step(id, ME)
        manager.pause(id, ME)
    assert settled(steps) == 0
    step(manager, id)
    assert settled(steps) == 1


def test_a_stopped_job_is_measured_and_stored_with_what_it_learned(manager):
    id = manager.start(LONG, ME)
    wait_for_rows(manager, id)
    manager.stop(id, ME)
    snap = wait_for(manager, id, "stopped")
    run = runs.load(id)
    assert snap.saved and snap.message == "Stopped by hand." and run.state == "stopped"
    assert run.measures["steps"] == snap.rows[-1]["step"] < 20_000


def test_a_paused_job_can_be_stopped(manager):
    id = manager.start(LONG, ME, paused=True)
    wait_for(manager, id, "paused")
    step(manager, id)
    manager.stop(id, ME)
    assert wait_for(manager, id, "stopped").saved
    assert runs.load(id).measures["steps"] == 1


def test_a_job_stopped_before_its_first_step_stores_nothing(manager, home):
    id = manager.start(SHORT, ME, paused=True)
    wait_for(manager, id, "paused")
    manager.stop(id, ME)
    snap = wait_for(manager, id, "stopped")
    manager.save_again(id, ME)
    assert not snap.saved and snap.measures == {} and runs.list_runs() == ([], [])


def test_commands_to_a_job_that_has_ended_do_nothing(manager):
    id = manager.start(SHORT, ME)
    done = wait_for(manager, id, "done")
    stored = runs.load(id)
    for command in (manager.pause, manager.resume, manager.step, manager.stop, manager.save_again):
        command(id, ME)
    manager.change(id, ME, "temperature", 9)
    next_id = manager.start(SHORT, ME)
    wait_for(manager, next_id, "done")
    assert manager.snapshot(id, ME) == done and runs.load(id) == stored


def test_only_the_owner_can_command_and_others_watch(manager, steps):
    id = manager.start(SHORT, ME, paused=True)
    wait_for(manager, id, "paused")
    commands = [manager.pause, manager.resume, manager.step, manager.stop, manager.save_again]
    commands.append(lambda id, token: manager.change(id, token, "temperature", 9))
    for token in (OTHER, "", None, runs.owner_digest(ME)):
        for command in commands:
            with pytest.raises(UserError, match="Only the person who started this run can command it"):
                command(id, token)
    snap = manager.snapshot(id, OTHER)
    assert not snap.mine and not manager.snapshot(id).mine and snap.state == "paused" and len(steps) == 0
    assert step(manager, id).mine


def test_a_start_without_a_token_is_refused(manager):
    for token in ("", None):
        with pytest.raises(UserError, match="reload the page"):
            manager.start(SHORT, token)


# -- changes -------------------------------------------------------------------------------------


def test_changes_are_stored_as_a_schedule_that_gives_the_same_student(manager, mnist):
    id = manager.start(SHORT.replace(schedule="2:temperature=3;12:soft_weight=0.4"), ME, paused=True)
    wait_for(manager, id, "paused")
    manager.change(id, ME, "temperature", 12)  # before the first step
    step(manager, id)
    step(manager, id)
    manager.change(id, ME, "temperature", 8)  # after step 2, where the schedule has a change too
    step(manager, id)
    manager.change(id, ME, "soft_weight", 0.25)
    manager.change(id, ME, "temperature", 6)
    step(manager, id)
    manager.resume(id, ME)
    snap = wait_for(manager, id, "done")
    run = runs.load(id)
    assert run.config.schedule == (
        (0, "temperature", 12.0),
        (2, "temperature", 3.0),
        (2, "temperature", 8.0),
        (3, "soft_weight", 0.25),
        (3, "temperature", 6.0),
        (12, "soft_weight", 0.4),
    )
    assert sorted(snap.changes) == sorted(run.config.schedule)
    assert same_as(run, directly(run.config, mnist))
    assert not same_as(run, directly(SHORT, mnist))


def test_changes_during_training_are_stored_as_a_schedule_that_gives_the_same_student(manage, mnist):
    manager, config = manage(tick=0.0), SHORT.replace(epochs=6, batch_size=20)
    id = manager.start(config, ME)
    for temperature in (8.0, 2.0, 15.0):
        wait_for_rows(manager, id, len(manager.snapshot(id).rows) + 1)
        manager.change(id, ME, "temperature", temperature)
    wait_for(manager, id, "done")
    run = runs.load(id)
    assert [value for _, _, value in run.config.schedule] == [8.0, 2.0, 15.0]
    assert same_as(run, directly(run.config, mnist))


def test_a_change_before_the_first_step_wins_over_a_schedule_that_begins_there(manager, mnist):
    id = manager.start(SHORT.replace(schedule="0:temperature=3"), ME, paused=True)
    wait_for(manager, id, "paused")
    manager.change(id, ME, "temperature", 12)
    manager.resume(id, ME)
    wait_for(manager, id, "done")
    run = runs.load(id)
    assert same_as(run, directly(SHORT.replace(temperature=12), mnist)) and same_as(
        run, directly(run.config, mnist)
    )


def test_a_change_to_a_waiting_job_holds_from_its_start(manager, mnist):
    first = manager.start(LONG, ME)
    id = manager.start(SHORT, ME)
    manager.change(id, ME, "temperature", 12)
    manager.stop(first, ME)
    wait_for(manager, id, "done")
    assert same_as(runs.load(id), directly(SHORT.replace(temperature=12), mnist))


def test_the_settings_shown_are_those_in_force(manager):
    id = manager.start(SHORT.replace(schedule="3:temperature=3"), ME, paused=True)
    assert wait_for(manager, id, "paused").settings == {"temperature": 4.0, "soft_weight": 0.9}
    step(manager, id)
    manager.change(id, ME, "temperature", 8)
    assert step(manager, id).settings["temperature"] == 8.0
    assert step(manager, id).settings["temperature"] == 3.0, "the schedule came later"
    assert step(manager, id).settings == {"temperature": 3.0, "soft_weight": 0.9}


def test_a_bad_change_is_refused_and_changes_nothing(manager):
    id = manager.start(SHORT, ME, paused=True)
    wait_for(manager, id, "paused")
    for name, value, message in [
        ("temperature", 100, "Temperature must be between"),
        ("temperature", float("nan"), "Temperature must be a number"),
        ("soft_weight", "x", "Soft weight must be a number"),
        ("epochs", 5, "Only temperature and soft_weight can change"),
    ]:
        with pytest.raises(UserError, match=message):
            manager.change(id, ME, name, value)
    assert step(manager, id).changes == ()


def test_a_change_of_what_the_method_does_not_read_is_refused(manager):
    id = manager.start(SHORT.replace(method="mse"), ME, paused=True)
    with pytest.raises(UserError, match="Temperature plays no part in the method mse, which has soft_weight"):
        manager.change(id, ME, "temperature", 8.0)
    manager.change(id, ME, "soft_weight", 0.5)
    assert step(manager, id).changes == ((0, "soft_weight", 0.5),)


def test_a_teacher_that_the_method_cannot_look_into_is_refused_at_once(manager):
    with pytest.raises(
        UserError, match="The method attention compares feature maps .* and the teacher mlp-30 has none"
    ):
        manager.start(SHORT.replace(method="attention", student="cnn-tiny"), ME)
    assert not manager.active()


def test_the_number_of_changes_is_bounded_so_that_they_can_be_stored(manager, monkeypatch):
    monkeypatch.setattr("kd.jobs.manager.MAX_CHANGES", 3)
    monkeypatch.setattr("kd.config.distil.MAX_CHANGES", 3)
    id = manager.start(SHORT.replace(schedule="1:temperature=3;2:temperature=4"), ME, paused=True)
    wait_for(manager, id, "paused")
    manager.change(id, ME, "temperature", 8)
    manager.change(id, ME, "temperature", 9)
    with pytest.raises(UserError, match="A run can hold at most 3 changes"):
        manager.change(id, ME, "soft_weight", 0.5)
    manager.resume(id, ME)
    assert wait_for(manager, id, "done").saved


# -- the queue -----------------------------------------------------------------------------------


def test_jobs_run_one_after_the_other_in_the_order_they_came(manager, monkeypatch):
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


def test_the_queue_and_each_owners_share_of_it_are_bounded(manager):
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


def test_a_teacher_that_does_not_exist_is_told_at_once(manager, monkeypatch):
    def unknown(name, device):
        raise UserError("There is no teacher called that.")

    monkeypatch.setattr("kd.teachers.catalogue.load", unknown)
    with pytest.raises(UserError, match="no teacher"):
        manager.start(SHORT, ME)
    assert manager.active() == 0


def test_the_machine_is_busy_while_something_trains_or_waits_but_not_while_all_is_paused(manage):
    manager = manage(patience=60.0)
    assert not manager.busy()
    first = manager.start(LONG, ME, paused=True)
    assert manager.busy()
    wait_for(manager, first, "paused")
    assert not manager.busy() and manager.active() == 1
    second = manager.start(SHORT, OTHER)
    assert manager.busy(), "its turn may come at any moment"
    manager.stop(second, OTHER)
    assert not manager.busy()
    manager.resume(first, ME)
    assert manager.busy()
    manager.stop(first, ME)
    wait_for(manager, first, "stopped")
    assert not manager.busy()


def test_a_paused_job_keeps_the_worker_while_nobody_waits_or_patience_lasts(manage):
    manager = manage(patience=60.0)
    first = manager.start(SHORT, ME, paused=True)
    wait_for(manager, first, "paused")
    second = manager.start(SHORT, OTHER)
    time.sleep(0.7)
    assert manager.snapshot(second).state == "queued" and manager.snapshot(first).message == ""
    manager.resume(first, ME)
    wait_for(manager, second, "done")
    assert manager.snapshot(first).state == "done"


def test_a_paused_job_gives_way_to_others_and_ends_the_same_later(manage, mnist):
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
        and snap.message == "Paused; others are training meanwhile. Resume puts it back into the queue."
    )
    third = manager.start(LONG, OTHER)
    wait_for(manager, third, "running")
    manager.resume(first, ME)
    assert (manager.snapshot(first).state, manager.snapshot(first).place) == ("queued", 1)
    manager.stop(third, OTHER)
    wait_for(manager, first, "done")
    assert same_as(runs.load(first), directly(SHORT, mnist))


def test_a_job_that_gave_way_can_make_one_step(manage, steps):
    manager = manage(patience=0.0)
    first = manager.start(LONG, ME, paused=True)
    wait_for(manager, first, "paused")
    second = manager.start(SHORT, OTHER)
    wait_for(manager, second, "done")
    assert len(steps) == 20
    assert step(manager, first).rows[-1]["step"] == 1 and settled(steps) == 21


def test_a_job_that_gave_way_is_stored_at_once_when_it_is_stopped(manage):
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


@pytest.mark.parametrize("gives_way", [True, False])
def test_a_job_that_is_stopped_ends_once_however_often_buttons_are_pressed(manage, monkeypatch, gives_way):
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
    with manager._changed:  # the worker sees all at once
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
        "Stopped by hand.",
        True,
    )
    assert runs.load(id).measures["steps"] == 1


# -- leases ----------------------------------------------------------------------------------------


def test_a_job_that_nobody_watches_ends_and_is_stored(manage):
    manager = manage(lease=1.0)
    id = manager.start(LONG, ME)
    waiting = manager.start(LONG, ME)
    wait_for_rows(manager, id)
    wait_until(lambda: not manager.active(), "both leases end")
    snap = manager.snapshot(id, ME)
    assert (snap.state, snap.message, snap.saved) == ("stopped", "Ended because nobody was watching.", True)
    assert manager.snapshot(waiting).state == "stopped" and [run.id for run in runs.list_runs()[0]] == [id]


def test_watching_renews_the_lease(manage):
    manager = manage(lease=1.5)
    id = manager.start(LONG, ME)
    end = time.monotonic() + 2.2
    while time.monotonic() < end:
        assert manager.snapshot(id, OTHER).active
        time.sleep(0.05)


def test_the_pace_slows_with_the_root_of_the_viewers():
    assert [pace(viewers) for viewers in (0, 1, 4, 16, 100)] == [0.25, 0.25, 0.5, 1.0, 2.5]
    # All together: fifty viewers look seven times as often as one, not fifty times.
    assert 50 / pace(50) == pytest.approx(50**0.5 / pace(1))


def test_who_looked_lately_counts_as_a_viewer_and_each_but_once(manager, monkeypatch):
    id = manager.start(LONG, ME, paused=True)
    assert manager.snapshot(id, ME).viewers == 1
    assert [manager.snapshot(id, token).viewers for token in (OTHER, ME, OTHER, "a third")] == [2, 2, 2, 3]
    monkeypatch.setattr("kd.jobs.manager.WATCHING", 0.05)
    time.sleep(0.1)
    assert manager.snapshot(id, OTHER).viewers == 1


def test_a_look_on_nobodys_behalf_neither_counts_nor_renews_the_lease(manage):
    manager = manage(lease=0.5)
    id = manager.start(LONG, ME)
    assert manager.snapshot(id, OTHER).viewers == 1
    end = time.monotonic() + 30
    while manager.snapshot(id, counts=False).active:
        assert manager.snapshot(id, counts=False).viewers <= 1 and time.monotonic() < end
        time.sleep(0.05)
    assert manager.snapshot(id, counts=False).message == "Ended because nobody was watching."


def test_who_only_watches_follows_a_run_while_it_is_under_way(manager):
    id = manager.start(LONG, ME, paused=True)
    assert manager.snapshot(id, OTHER).followed and not manager.snapshot(id, ME).followed
    manager.stop(id, ME)
    wait_for(manager, id, "stopped")
    assert not manager.snapshot(id, OTHER).followed


def test_the_owner_sees_a_run_live_however_many_watch(manager):
    id = manager.start(LONG, ME, paused=True)
    for guest in range(15):
        manager.snapshot(id, f"guest {guest}")
    assert manager.snapshot(id, ME).pace == pace(1)
    assert manager.snapshot(id, "guest 3").pace == pace(16)


# -- going wrong -----------------------------------------------------------------------------------


def test_an_error_in_the_program_is_told_in_plain_words_and_the_next_job_runs(manager, monkeypatch, caplog):
    real = Distillation.__init__

    def failing(self, config, *args):
        if config.seed == 13:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
        real(self, config, *args)

    monkeypatch.setattr(Distillation, "__init__", failing)
    id, following = manager.start(SHORT.replace(seed=13), ME), manager.start(SHORT, ME)
    wait_for(manager, following, "done")
    snap = manager.snapshot(id)
    assert (snap.state, snap.saved) == ("failed", False)
    assert snap.message == "Training failed because of an error in the program; the server's log tells more."
    assert "mat1 and mat2" in caplog.text and [run.id for run in runs.list_runs()[0]] == [following]


def test_an_experiment_that_cannot_be_done_tells_why(manager):
    id = manager.start(SHORT.replace(batch_size=4096), ME)
    following = manager.start(SHORT, ME)
    snap = wait_for(manager, id, "failed")
    assert (
        snap.message == "Batch size is 4,096, but there are only 1,000 training images; choose a smaller one."
    )
    wait_for(manager, following, "done")


def test_a_training_that_diverges_tells_so_and_stores_nothing(manager, monkeypatch):
    def spoiled(student, *_):
        return {"soft": student.logits.sum() * float("nan")}

    monkeypatch.setitem(
        base.METHODS, "hinton", dataclasses.replace(base.METHODS["hinton"], objective=spoiled)
    )
    id = manager.start(SHORT, ME)
    assert "try a lower learning rate" in wait_for(manager, id, "failed").message
    manager.save_again(id, ME)
    assert runs.list_runs() == ([], [])


def test_a_run_that_could_not_be_stored_can_be_stored_later(manager, monkeypatch, mnist):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(runs, "save_file", full)
        id = manager.start(SHORT, ME)
        snap = wait_for(manager, id, "done")
        assert not snap.saved and "the disk is full" in snap.message and snap.measures
        with pytest.raises(UserError, match="the disk is full"):
            manager.save_again(id, ME)
        assert not manager.snapshot(id).saved
    manager.save_again(id, ME)
    snap = manager.snapshot(id)
    assert (snap.state, snap.saved, snap.message) == ("done", True, "")
    assert same_as(runs.load(id), directly(SHORT, mnist))


# -- interrupted, and resumed ----------------------------------------------------------------------

MIDDLE = SHORT.replace(epochs=3, batch_size=20)  # 150 steps


@pytest.fixture
def often(monkeypatch):
    """A checkpoint at the end of each epoch."""
    monkeypatch.setattr(checkpoints, "EVERY", 0.0)


def pause_after(manager, config, steps=3):
    """A run of mine that is paused after some steps by hand."""
    id = manager.start(config, ME, paused=True)
    wait_for(manager, id, "paused")
    for _ in range(steps):
        step(manager, id)
    wait_until(lambda: checkpoints.exists(id) and len(checkpoints.load(id).rows) == steps, "a checkpoint")
    return id


@pytest.mark.parametrize("rows", [55, 120])
def test_a_run_whose_server_is_killed_resumes_to_the_same_bits(
    manage, mnist, home, tmp_path, monkeypatch, often, rows
):
    first = manage(tick=0.0)
    id = first.start(MIDDLE, ME)
    wait_for_rows(first, id, 5)
    first.change(id, ME, "temperature", 9)
    wait_for_rows(first, id, rows)
    # What a kill leaves: the folder as it is at any moment, and locks that nobody holds.
    shutil.copytree(home, tmp_path / "left", ignore=shutil.ignore_patterns("*.tmp"))
    first.stop(id, ME)
    wait_for(first, id, "stopped")
    monkeypatch.setenv("KD_HOME", str(tmp_path / "left"))
    kept = checkpoints.load(id)
    assert 50 <= kept.rows[-1]["step"] < 150 and kept.config.schedule[0][1:] == ("temperature", 9.0)
    second = manage(tick=0.0)
    second.resume(id, ME)
    assert second.snapshot(id).rows[: len(kept.rows)] == tuple(kept.rows)
    snap = wait_for(second, id, "done")
    run = runs.load(id)
    assert (run.state, run.owner, run.config) == ("done", runs.owner_digest(ME), kept.config) and snap.mine
    assert same_as(run, directly(kept.config, mnist)) and run.measures["steps"] == 150
    assert [row["step"] for row in run.metrics()] == sorted({row["step"] for row in run.metrics()})
    assert [path.name for path in paths.home().iterdir()] == [id]


def test_a_paused_run_resumes_after_a_close_with_the_change_that_waited(manage, mnist):
    first = manage()
    id = pause_after(first, SHORT.replace(schedule="3:temperature=2"))
    first.change(id, ME, "temperature", 11)
    first.close()
    second = manage()
    second.resume(id, ME)
    wait_for(second, id, "done")
    run = runs.load(id)
    assert run.config.schedule == ((3, "temperature", 2.0), (3, "temperature", 11.0))
    assert same_as(run, directly(run.config, mnist))
    assert not same_as(run, directly(SHORT.replace(schedule="3:temperature=2"), mnist))


def test_a_teacher_resumes_too(manage, mnist):
    config = TeacherConfig(teacher="mlp-30", epochs=2, batch_size=100, augmentation="jitter")
    first = manage()
    id = pause_after(first, config)
    first.close()
    second = manage()
    second.resume(id, ME)
    wait_for(second, id, "done")
    whole = base.TeacherTraining(config, mnist)
    for _ in whole.records():
        pass
    assert same_as(runs.load(id), {"teacher": weights(whole.trained["teacher"])})


def test_a_resumed_run_answers_at_once_and_can_be_stopped(manage, mnist):
    first = manage()
    id = pause_after(first, LONG)
    inputs = mnist.test.inputs()[:4]
    before = first.predict(id, inputs)
    first.close()
    second = manage()
    second.resume(id, ME)
    answers = wait_until(lambda: second.predict(id, inputs), "an answer")
    assert set(answers) == set(before)
    second.stop(id, ME)
    assert wait_for(second, id, "stopped").saved and not checkpoints.exists(id)


def test_a_resumed_run_that_is_stopped_while_it_waits_is_interrupted_as_before(manage, home):
    first = manage()
    id = pause_after(first, LONG)
    first.close()
    content = (home / f"{id}.checkpoint").read_bytes()
    second = manage()
    second.start(LONG, OTHER)
    second.resume(id, ME)
    assert second.snapshot(id).state == "queued"
    second.stop(id, ME)
    assert second.snapshot(id).state == "interrupted" and (home / f"{id}.checkpoint").read_bytes() == content
    assert [kept.id for kept in checkpoints.list_interrupted()[0]] == [id]
    second.resume(id, ME)
    assert second.snapshot(id).state == "queued"


def test_resuming_counts_against_the_bounds_and_changes_nothing_when_refused(manage):
    first = manage()
    id = pause_after(first, LONG)
    first.close()
    second = manage()
    for _ in range(MAX_PER_OWNER):
        second.start(LONG, ME, paused=True)
    with pytest.raises(UserError, match="You already have 3 runs under way"):
        second.resume(id, ME)
    assert second.snapshot(id) is None and [kept.id for kept in checkpoints.list_interrupted()[0]] == [id]


def test_only_its_owner_resumes_or_discards_an_interrupted_run(manage):
    first = manage()
    id = pause_after(first, LONG)
    first.close()
    second = manage()
    for token in (OTHER, "", None, runs.owner_digest(ME)):
        for command in (second.resume, checkpoints.discard):
            with pytest.raises(
                UserError, match="Only the person who started this run can go on with it or discard it"
            ):
                command(id, token)
    checkpoints.discard(id, ME)
    with pytest.raises(UserError, match="There is no unfinished run"):
        second.resume(id, ME)
    assert not list(paths.home().iterdir())


def test_two_servers_on_one_folder_do_not_train_the_same_run(manage, often):
    first, second = manage(), manage()
    id = pause_after(first, LONG)
    assert checkpoints.in_training(id) and checkpoints.list_interrupted() == ([], [])
    for command in (second.resume, checkpoints.discard):
        with pytest.raises(
            UserError, match="in training elsewhere: in another server, or from the command line"
        ):
            command(id, ME)
    first.close()
    assert not checkpoints.in_training(id)
    second.resume(id, ME)
    wait_for_rows(second, id, 4)


def test_a_run_that_ends_leaves_no_checkpoint(manager, home, often):
    done = manager.start(SHORT, ME)
    wait_for(manager, done, "done")
    stopped = pause_after(manager, LONG)
    manager.stop(stopped, ME)
    wait_for(manager, stopped, "stopped")
    assert {path.name for path in home.iterdir()} == {done, stopped}


def test_a_disk_that_takes_no_checkpoint_is_told_and_ends_no_training(
    manager, mnist, monkeypatch, caplog, often
):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(checkpoints, "save_file", full)
        id = manager.start(SHORT, ME, paused=True)
        wait_for(manager, id, "paused")
        for _ in range(3):
            message = step(manager, id).message
        assert message.startswith("A checkpoint was not saved because the disk is full: free some space in")
        assert message.endswith("Training goes on, but what is not saved is lost if the server ends.")
        assert caplog.text.count("the disk is full") == 1 and not checkpoints.exists(id)
    step(manager, id)
    wait_until(
        lambda: manager.snapshot(id).message == "" and checkpoints.exists(id), "a checkpoint, and silence"
    )
    manager.resume(id, ME)
    wait_for(manager, id, "done")
    assert same_as(runs.load(id), directly(SHORT, mnist))


def test_a_checkpoint_that_does_not_fit_is_told_and_stays(manage, mnist, home, monkeypatch):
    first = manage()
    id = pause_after(first, LONG)
    first.close()
    path = home / f"{id}.checkpoint"
    content = path.read_bytes()
    second = manage()
    with monkeypatch.context() as other:
        other.setattr(
            second.source, "_mnist", dataclasses.replace(mnist, train=mnist.train.take(slice(0, 500)))
        )
        with pytest.raises(UserError, match="was started on other data; set KD_DATA_DIR"):
            second.resume(id, ME)
    second._teachers.clear()
    with monkeypatch.context() as other:
        other.setattr("kd.teachers.catalogue.load", lambda name, device="cpu": small_teacher(seed=8))
        with pytest.raises(UserError, match="teacher has other weights than when it was started"):
            second.resume(id, ME)
    second._teachers.clear()
    with monkeypatch.context() as other:
        other.setattr(checkpoints, "FORMAT", 99)
        with pytest.raises(UserError, match="is of another version of the program"):
            second.resume(id, ME)
    path.write_bytes(content[:-100])
    with pytest.raises(UserError, match="is damaged and cannot be gone on from"):
        second.resume(id, ME)
    path.write_bytes(content)
    second.resume(id, ME)
    wait_for_rows(second, id, 4)


def test_weights_that_do_not_fit_the_program_are_told_and_stay(manage, monkeypatch):
    first = manage()
    id = pause_after(first, LONG)
    first.close()
    real = registry.build
    monkeypatch.setattr(
        registry, "build", lambda name, seed: real("linear" if seed == LONG.seed else name, seed)
    )
    second = manage()
    second.resume(id, ME)
    snap = wait_for(second, id, "interrupted")
    assert "of another version of the program" in snap.message and checkpoints.exists(id)
    monkeypatch.setattr(registry, "build", real)
    second.resume(id, ME)
    wait_for_rows(second, id, 4)


def test_a_training_that_fails_after_a_checkpoint_can_be_resumed(manager, monkeypatch, mnist):
    id = pause_after(manager, SHORT)
    with monkeypatch.context() as broken:
        broken.setattr(loop.Training, "_train", lambda *_: 1 / 0)
        manager.resume(id, ME)
        snap = wait_for(manager, id, "interrupted")
    assert "error in the program" in snap.message and snap.message.endswith(
        "Resume goes on from its last checkpoint."
    )
    manager.resume(id, ME)
    wait_for(manager, id, "done")
    assert same_as(runs.load(id), directly(SHORT, mnist))


def test_a_training_that_diverges_is_stored_as_it_was_at_its_last_record_and_the_next_job_runs(
    manager, mnist, home
):
    id = pause_after(manager, SHORT)
    inputs = mnist.test.inputs()
    good = manager.predict(id, inputs)
    manager._jobs[id].experiment.training._training.learners[0].objective = lambda student, *_: {
        "soft": student.logits.sum() * float("nan")
    }
    manager.resume(id, ME)
    snap = wait_for(manager, id, "stopped")
    run = runs.load(id)
    assert snap.saved and snap.message == run.message
    assert (
        "out of bounds" in run.message
        and "lower learning rate" in run.message
        and run.message.endswith("What it had learned by step 3 is kept.")
    )
    assert same_as(run, {which: weights(model) for which, model in manager._jobs[id].published.items()})
    assert all(torch.equal(said, good[which]) for which, said in manager.predict(id, inputs).items())
    assert [path.name for path in home.iterdir()] == [id], "no checkpoint, since it would go wrong again"
    wait_for(manager, manager.start(SHORT, ME), "done")


# -- predicting while training ---------------------------------------------------------------------


@pytest.mark.parametrize("student", ["mlp-30", "cnn-tiny"])
def test_predictions_are_those_of_the_last_record_in_eval_mode(manager, mnist, student):
    config, inputs = SHORT.replace(student=student, epochs=1), mnist.test.inputs()[:8]
    id = manager.start(config, ME, paused=True)
    wait_for(manager, id, "paused")
    assert manager.predict(id, inputs) == {}, "an untrained model is no answer"
    step(manager, id)
    first = manager.predict(id, inputs)
    assert set(first) == {"student", "control"} and not first["student"].requires_grad
    for which, logits in first.items():
        one_by_one = torch.cat([manager.predict(id, image[None])[which] for image in inputs])
        torch.testing.assert_close(
            logits, one_by_one, rtol=1e-4, atol=1e-5
        )  # batch normalization in training mode mixes images
    manager.resume(id, ME)
    wait_for(manager, id, "done")
    for which, logits in manager.predict(id, inputs).items():
        stored = inference.logits_in_chunks(runs.load(id).model(which), inputs)
        torch.testing.assert_close(logits, stored, rtol=1e-4, atol=1e-5)
        assert not torch.equal(logits, first[which])


def test_predictions_during_training_do_not_change_it(manager, mnist):
    config = SHORT.replace(student="cnn-tiny", epochs=1, batch_size=20)
    id = manager.start(config, ME)
    while manager.snapshot(id).active:
        manager.predict(id, mnist.test.inputs()[:4])
    assert same_as(runs.load(id), directly(config, mnist))


def test_predictions_never_come_from_the_model_in_training(manager, mnist):
    id = manager.start(SHORT, ME, paused=True)
    wait_for(manager, id, "paused")
    step(manager, id)
    job = manager._jobs[id]
    trained, published = job.experiment.trained, job.published
    assert identical(trained["student"], published["student"])
    for which, model in published.items():
        assert not any(module.training for module in model.modules()) and trained[which].training
        ours = {value.data_ptr() for value in trained[which].state_dict().values()}
        assert not ours & {value.data_ptr() for value in model.state_dict().values()}


# -- bounds, and the end ---------------------------------------------------------------------------


def test_only_so_many_finished_jobs_are_remembered(manager, monkeypatch):
    monkeypatch.setattr("kd.jobs.manager.MAX_REMEMBERED", 2)
    ids = []
    for _ in range(4):
        ids.append(manager.start(SHORT.replace(epochs=1), ME))
        wait_for(manager, ids[-1], "done")
    manager.start(LONG, ME)
    assert [manager.snapshot(id) is not None for id in ids] == [False, False, True, True]
    assert len(runs.list_runs()[0]) == 4


def test_rows_are_thinned_out_but_for_the_newest_and_the_ends_of_epochs(manage, monkeypatch):
    monkeypatch.setattr("kd.jobs.manager.MAX_ROWS", 12)
    manager = manage(tick=0.0)  # a record after each step
    id = manager.start(SHORT.replace(epochs=4), ME, paused=True)
    wait_for(manager, id, "paused")
    for count in range(1, 20):
        assert step_row(manager, id) == count
    manager.resume(id, ME)
    rows = wait_for(manager, id, "done").rows
    assert len(rows) <= 12 and [row["step"] for row in rows if row["whole_validation"]] == [10, 20, 30, 40]


def step_row(manager, id):
    before = manager.snapshot(id).version
    manager.step(id, ME)
    snap = wait_until(
        lambda: (snap := manager.snapshot(id)).state == "paused" and snap.version > before + 1 and snap,
        "a step",
    )
    return snap.rows[-1]["step"]


def test_few_teachers_are_kept_and_each_is_loaded_once(manager, monkeypatch):
    loaded = []
    monkeypatch.setattr(
        "kd.teachers.catalogue.load", lambda name, device: loaded.append(name) or small_teacher()
    )
    for name in ("a", "a", "b", "c", "b", "d", "d", "a"):
        manager.teacher(name)
    assert loaded == ["a", "b", "c", "d", "a"] and len(manager._teachers) == 3


def test_closing_keeps_a_checkpoint_of_each_run_that_has_begun_and_ends_the_thread(manage, home):
    manager = manage(patience=0.0)
    gave_way = manager.start(LONG, ME, paused=True)
    wait_for(manager, gave_way, "paused")
    step(manager, gave_way)
    never_began = manager.start(LONG, OTHER, paused=True)
    wait_for(manager, never_began, "paused")
    training = manager.start(LONG, OTHER)
    wait_for_rows(manager, training)
    worker = threads("kd-worker")[0]
    manager.close()
    assert not worker.is_alive()
    assert runs.list_runs() == ([], []) and {path.name for path in home.iterdir()} == {
        f"{id}.checkpoint" for id in (gave_way, training)
    }
    found, problems = checkpoints.list_interrupted()
    assert {kept.id for kept in found} == {gave_way, training} and not problems
    with pytest.raises(UserError, match="shutting down"):
        manager.start(SHORT, ME)


def test_closing_needs_no_job_and_may_come_twice(manage):
    manager = manage()
    manager.close()
    manager.close()


def test_the_end_of_the_process_closes_the_manager(mnist, monkeypatch):
    at_exit = []
    monkeypatch.setattr(atexit, "register", at_exit.append)
    manager = JobManager(Given(mnist), lease=None)
    id = manager.start(LONG, ME)
    wait_for_rows(manager, id)
    (end,) = at_exit
    end()
    assert not threads("kd-worker") and checkpoints.exists(id)


def test_snapshots_cannot_be_changed(manager):
    id = manager.start(SHORT, ME, paused=True)
    snap = wait_for(manager, id, "paused")
    with pytest.raises(dataclasses.FrozenInstanceError):
        snap.state = "done"
    snap.settings["temperature"] = 1.0
    assert manager.snapshot(id).settings["temperature"] == 4.0
