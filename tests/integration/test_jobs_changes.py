"""Changing the temperature and the soft weight of a job while it trains."""

import pytest

from kd.errors import UserError
from kd.store import runs
from tests.jobs import LONG, ME, SHORT, directly, same_as, step, wait_for, wait_for_rows


def test_schedule_of_the_changes_gives_the_same_student(manager, mnist):
    id = manager.start(SHORT.replace(schedule="2:temperature=3;12:soft_weight=0.4"), ME, paused=True)
    wait_for(manager, id, "paused")
    manager.change(id, ME, "temperature", 12)  # before the first step
    step(manager, id)
    step(manager, id)
    manager.change(id, ME, "temperature", 8)  # after step 2, where the schedule also has a change
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


def test_schedule_of_changes_in_training_gives_the_same_student(manage, mnist):
    manager, config = manage(tick=0.0), SHORT.replace(epochs=6, batch_size=20)
    id = manager.start(config, ME)
    for temperature in (8.0, 2.0, 15.0):
        wait_for_rows(manager, id, len(manager.snapshot(id).rows) + 1)
        manager.change(id, ME, "temperature", temperature)
    wait_for(manager, id, "done")
    run = runs.load(id)
    assert [value for _, _, value in run.config.schedule] == [8.0, 2.0, 15.0]
    assert same_as(run, directly(run.config, mnist))


def test_change_before_the_first_step_overrides_the_schedule(manager, mnist):
    id = manager.start(SHORT.replace(schedule="0:temperature=3"), ME, paused=True)
    wait_for(manager, id, "paused")
    manager.change(id, ME, "temperature", 12)
    manager.resume(id, ME)
    wait_for(manager, id, "done")
    run = runs.load(id)
    assert same_as(run, directly(SHORT.replace(temperature=12), mnist)) and same_as(
        run, directly(run.config, mnist)
    )


def test_change_to_a_waiting_job_holds_from_its_start(manager, mnist):
    first = manager.start(LONG, ME)
    id = manager.start(SHORT, ME)
    manager.change(id, ME, "temperature", 12)
    manager.stop(first, ME)
    wait_for(manager, id, "done")
    assert same_as(runs.load(id), directly(SHORT.replace(temperature=12), mnist))


def test_snapshot_shows_the_settings_in_force(manager):
    id = manager.start(SHORT.replace(schedule="3:temperature=3"), ME, paused=True)
    assert wait_for(manager, id, "paused").settings == {"temperature": 4.0, "soft_weight": 0.9}
    step(manager, id)
    manager.change(id, ME, "temperature", 8)
    assert step(manager, id).settings["temperature"] == 8.0
    assert step(manager, id).settings["temperature"] == 3.0, "the scheduled change comes later"
    assert step(manager, id).settings == {"temperature": 3.0, "soft_weight": 0.9}


def test_bad_change_is_refused_and_changes_nothing(manager):
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


def test_change_that_the_method_does_not_read_is_refused(manager):
    id = manager.start(SHORT.replace(method="mse"), ME, paused=True)
    with pytest.raises(UserError, match="plays no part in the method mse, which uses soft_weight"):
        manager.change(id, ME, "temperature", 8.0)
    manager.change(id, ME, "soft_weight", 0.5)
    assert step(manager, id).changes == ((0, "soft_weight", 0.5),)


def test_number_of_changes_is_bounded(manager, monkeypatch):
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
