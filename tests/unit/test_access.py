"""The presenter's password: without it visitors look and draw; it cannot be guessed by trying."""

import numpy as np
import pytest

from kd import permissions
from kd.config.distil import DistilConfig
from kd.errors import UserError
from kd.export import importing
from kd.jobs.manager import JobManager
from kd.models import registry
from kd.store import checkpoints, drawings, runs
from tests.helpers import Given, small_teacher

PASSWORD = "correct horse battery"
PRESENTER, VISITOR = "the presenter's token", "a visitor's token"
ONE, TWO = runs.owner_digest(PRESENTER), runs.owner_digest(VISITOR)


@pytest.fixture(autouse=True)
def fresh(home, monkeypatch):
    """Nobody has entered anything; a clock that stands still until it is moved."""
    monkeypatch.setattr(permissions, "_presenters", {})
    monkeypatch.setattr(permissions, "_wrong", permissions.deque())
    monkeypatch.delenv(permissions.PASSWORD, raising=False)
    now = [1000.0]
    monkeypatch.setattr(permissions.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def room(monkeypatch):
    monkeypatch.setenv(permissions.PASSWORD, PASSWORD)


def store(owner):
    return runs.save(
        runs.new_id(),
        DistilConfig(student="mlp-30"),
        "done",
        [],
        {"student": registry.build("mlp-30", 1)},
        {},
        runs.owner_digest(owner),
    ).id


def test_without_a_password_everybody_may_start_and_nobody_is_the_presenter():
    permissions.check(TWO, "start runs")
    assert not permissions.closed() and not permissions.presenter(TWO)
    with pytest.raises(UserError, match="no presenter"):
        permissions.enter("anything", TWO)


def test_a_visitor_can_neither_start_nor_store_nor_delete(room, mnist, monkeypatch):
    monkeypatch.setattr("kd.teachers.catalogue.load", lambda name, device="cpu": small_teacher())
    manager, run = JobManager(Given(mnist)), store(VISITOR)
    attempts = {
        "start runs": lambda: manager.start(DistilConfig(student="mlp-30"), VISITOR),
        "resume or discard runs": lambda: checkpoints.owned(run, VISITOR),
        "rename, pin or delete runs": lambda: runs.delete(run, VISITOR),
        "import networks": lambda: importing.store(b"", "student", "x", mnist, small_teacher(), TWO),
        "keep drawings": lambda: drawings.keep(np.zeros((28, 28), np.uint8), 1, VISITOR),
    }
    try:
        for what, attempt in attempts.items():
            with pytest.raises(UserError, match=f"^Only the presenter can {what} on this server"):
                attempt()
        for attempt in (
            lambda: runs.rename(run, "mine", VISITOR),
            lambda: runs.pin(run, True, VISITOR),
            lambda: manager.resume(run, VISITOR),
        ):
            with pytest.raises(UserError, match="^Only the presenter"):
                attempt()
        assert manager.active() == 0
    finally:
        manager.close()
    assert runs.load(run).name != "mine" and len(runs.list_runs()[0]) == 1, "it is still there, as it was"


def test_who_enters_the_password_may_and_only_they(room):
    permissions.enter(PASSWORD, ONE)
    permissions.check(ONE, "start runs")
    assert permissions.presenter(ONE) and not permissions.allowed(TWO) and not permissions.allowed(None)
    permissions.leave(ONE)
    assert not permissions.allowed(ONE)


def test_the_presenter_manages_the_runs_of_others_too(room):
    theirs = store(VISITOR)
    permissions.enter(PASSWORD, ONE)
    runs.rename(theirs, "another name", PRESENTER)
    runs.delete(theirs, PRESENTER)
    assert runs.list_runs() == ([], [])


@pytest.mark.parametrize("wrong", ["", "Correct horse battery", PASSWORD + " ", PASSWORD[:-1], "é\ud800"])
def test_a_wrong_password_is_refused_in_one_sentence(room, wrong):
    with pytest.raises(UserError, match="^That is not the presenter's password.$"):
        permissions.enter(wrong, TWO)
    assert not permissions.allowed(TWO)


@pytest.mark.parametrize("set_to", ["", "1234567"])
def test_a_password_that_is_empty_or_short_opens_nothing(monkeypatch, set_to):
    monkeypatch.setenv(permissions.PASSWORD, set_to)
    with pytest.raises(UserError, match="lets nobody in"):
        permissions.enter(set_to, ONE)
    assert not permissions.allowed(ONE)


def fail(who, address=None):
    with pytest.raises(UserError) as caught:
        permissions.enter("a guess", who, address)
    return "Too many" in str(caught.value)


def test_guessing_is_slow_from_one_browser_and_from_one_address(room, fresh):
    assert [fail("one browser") for _ in range(permissions.TRIES + 1)] == [False] * permissions.TRIES + [True]
    assert [fail(f"browser {i}", "10.0.0.7") for i in range(permissions.TRIES + 1)] == [
        False
    ] * permissions.TRIES + [True]
    with pytest.raises(UserError, match="Too many"):  # the right one is not told from a wrong one meanwhile
        permissions.enter(PASSWORD, "one browser")
    permissions.enter(PASSWORD, ONE, "10.0.0.8")  # others are let in
    fresh[0] += permissions.WINDOW + 1
    permissions.enter(PASSWORD, "one browser")


def test_guessing_is_slow_from_everywhere_together(room):
    assert sum(not fail(f"browser {i}", f"10.0.0.{i}") for i in range(200)) == permissions.ALL_TRIES


def test_there_are_never_more_presenters_than_fit(room):
    for i in range(permissions.MAX_PRESENTERS + 5):
        permissions.enter(PASSWORD, f"browser {i}")
    assert not permissions.presenter("browser 0") and permissions.presenter(
        f"browser {permissions.MAX_PRESENTERS + 4}"
    )
