"""Limits on stored runs: a full store refuses new runs before they start and loses nothing."""

import pytest

from kd import permissions
from kd.config.distil import DistilConfig
from kd.errors import UserError
from kd.export import importing
from kd.jobs.manager import JobManager
from kd.models import registry
from kd.store import quota, runs
from tests.helpers import Given, small_teacher, wait_until

ME, OTHER = "my token", "another token"
SHORT = DistilConfig(student="mlp-30", epochs=1, batch_size=100)


@pytest.fixture(autouse=True)
def in_home(home, monkeypatch):
    monkeypatch.delenv(permissions.PASSWORD, raising=False)
    monkeypatch.setattr("kd.teachers.catalogue.load", lambda name, device="cpu": small_teacher())
    return home


def store(id, owner=ME, **changes):
    run = runs.save(
        id, SHORT, "done", [], {"student": registry.build("mlp-30", 1)}, {}, runs.owner_digest(owner)
    )
    if changes:
        runs.pin(id, True, owner)
    return run


def id_of(day):
    return f"202601{day:02}-120000-0123456789abcdef"


def test_runs_and_bytes_are_counted(home):
    assert (quota.usage().runs, quota.usage().bytes) == (0, 0)
    run = store(id_of(1))
    (home / f"{id_of(2)}.checkpoint").write_bytes(b"x" * 1000)
    (home / "drawings").mkdir()
    (home / "drawings" / "a.png").write_bytes(b"x" * 10)
    used = quota.usage()
    assert used.runs == 2 and used.bytes == quota.size(run) + 1010
    assert quota.size(run) > 30 * 784 * 4


@pytest.mark.parametrize(("name", "value"), [("KD_MAX_RUNS", "1"), ("KD_MAX_BYTES", "100")])
def test_full_store_refuses_new_runs_and_keeps_old_ones(mnist, monkeypatch, name, value):
    store(id_of(1))
    monkeypatch.setenv(name, value)
    manager = JobManager(Given(mnist))
    try:
        for begin in (
            lambda: manager.start(SHORT, ME),
            lambda: importing.store(b"", "student", "x", mnist, small_teacher(), runs.owner_digest(ME)),
        ):
            with pytest.raises(
                UserError, match=r"^The store is full \(.*nothing is lost\. Delete runs on the Runs page"
            ):
                begin()
        runs.delete(id_of(1), ME)
        manager.start(SHORT, ME)
        with pytest.raises(UserError, match="The store is full"):  # the active run has reserved its place
            manager.start(SHORT, ME) if name == "KD_MAX_RUNS" else quota.check(quota.MAX_RUNS)
    finally:
        manager.close()


def test_active_run_is_stored_even_if_the_store_is_full(mnist, monkeypatch):
    manager = JobManager(Given(mnist), tick=0.05, lease=None)
    try:
        id = manager.start(SHORT, ME)
        monkeypatch.setenv("KD_MAX_BYTES", "1")
        wait_until(lambda: manager.snapshot(id, ME).state == "done")
        assert manager.snapshot(id, ME).saved and runs.load(id)
    finally:
        manager.close()


@pytest.mark.parametrize("value", ["0", "-3", "nan", "many"])
def test_invalid_limit_is_reported(monkeypatch, value):
    monkeypatch.setenv("KD_MAX_RUNS", value)
    with pytest.raises(UserError, match="KD_MAX_RUNS must be at least 1"):
        quota.check()


def test_removable_runs_are_unpinned_and_oldest_first(monkeypatch):
    for day, owner in ((3, ME), (1, ME), (2, OTHER)):
        store(id_of(day), owner)
    store(id_of(4), ME, pinned=True)
    runs.save(id_of(5), SHORT, "done", [], {}, {})  # made from the command line
    found, mine = runs.list_runs()[0], runs.owner_digest(ME)
    assert [run.id for run in quota.removable(found, mine)] == [id_of(1), id_of(3)]
    assert not quota.removable(found, None)
    monkeypatch.setenv(permissions.PASSWORD, "correct horse battery")
    monkeypatch.setattr(permissions, "_presenters", {"the presenter": None})
    assert [run.id for run in quota.removable(found, "the presenter")] == [id_of(1), id_of(2), id_of(3)]


def test_pin_survives_a_rename_and_can_be_removed():
    store(id_of(1), pinned=True)
    runs.rename(id_of(1), "another", ME)
    assert runs.load(id_of(1)).pinned
    runs.pin(id_of(1), False, ME)
    assert not runs.load(id_of(1)).pinned and runs.load(id_of(1)).name == "another"
    with pytest.raises(UserError, match="belongs to somebody else"):
        runs.pin(id_of(1), True, OTHER)


def test_paused_runs_of_all_owners_are_limited(mnist, monkeypatch):
    monkeypatch.setattr("kd.jobs.queue.MAX_ACTIVE", 2)
    manager = JobManager(Given(mnist), tick=0.05, lease=None, patience=60.0)
    try:
        for owner in ("a", "b"):
            manager.start(SHORT.replace(epochs=200, batch_size=10), owner, paused=True)
        with pytest.raises(UserError, match="2 runs are already under way"):
            manager.start(SHORT, "c")
    finally:
        manager.close()
