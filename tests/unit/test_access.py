"""The presenter's password: without it visitors look and draw; it cannot be guessed by trying."""

import numpy as np
import pytest

from kd import access, checkpoints, importing, jobs, models, personal, runs
from kd.config import DistilConfig
from kd.errors import UserError
from tests.helpers import Given, small_teacher

PASSWORD = "correct horse battery"
PRESENTER, VISITOR = "the presenter's token", "a visitor's token"
ONE, TWO = runs.owner_digest(PRESENTER), runs.owner_digest(VISITOR)


@pytest.fixture(autouse=True)
def fresh(home, monkeypatch):
    """Nobody has entered anything; a clock that stands still until it is moved."""
    monkeypatch.setattr(access, "_presenters", {})
    monkeypatch.setattr(access, "_wrong", access.deque())
    monkeypatch.delenv(access.PASSWORD, raising=False)
    now = [1000.0]
    monkeypatch.setattr(access.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def room(monkeypatch):
    monkeypatch.setenv(access.PASSWORD, PASSWORD)


def store(owner):
    return runs.save(runs.new_id(), DistilConfig(student="mlp-30"), "done", [], {"student": models.build("mlp-30", 1)}, {}, runs.owner_digest(owner)).id


def test_without_a_password_everybody_may_start_and_nobody_is_the_presenter():
    access.check(TWO, "start runs")
    assert not access.closed() and not access.presenter(TWO)
    with pytest.raises(UserError, match="no presenter"):
        access.enter("anything", TWO)


def test_a_visitor_can_neither_start_nor_store_nor_delete(room, mnist, monkeypatch):
    monkeypatch.setattr("kd.teacher.load", lambda name, device="cpu": small_teacher())
    manager, run = jobs.JobManager(Given(mnist)), store(VISITOR)
    attempts = {
        "start runs": lambda: manager.start(DistilConfig(student="mlp-30"), VISITOR),
        "go on with runs or discard them": lambda: checkpoints.owned(run, VISITOR),
        "rename, pin or delete runs": lambda: runs.delete(run, VISITOR),
        "import networks": lambda: importing.store(b"", "student", "x", mnist, small_teacher(), TWO),
        "keep drawings": lambda: personal.keep(np.zeros((28, 28), np.uint8), 1, VISITOR),
    }
    try:
        for what, attempt in attempts.items():
            with pytest.raises(UserError, match=f"^Only the presenter can {what} on this server"):
                attempt()
        for attempt in (lambda: runs.rename(run, "mine", VISITOR), lambda: runs.pin(run, True, VISITOR), lambda: manager.resume(run, VISITOR)):
            with pytest.raises(UserError, match="^Only the presenter"):
                attempt()
        assert manager.active() == 0
    finally:
        manager.close()
    assert runs.load(run).name != "mine" and len(runs.list_runs()[0]) == 1, "it is still there, as it was"


def test_who_enters_the_password_may_and_only_they(room):
    access.enter(PASSWORD, ONE)
    access.check(ONE, "start runs")
    assert access.presenter(ONE) and not access.allowed(TWO) and not access.allowed(None)
    access.leave(ONE)
    assert not access.allowed(ONE)


def test_the_presenter_manages_the_runs_of_others_too(room):
    theirs = store(VISITOR)
    access.enter(PASSWORD, ONE)
    runs.rename(theirs, "another name", PRESENTER)
    runs.delete(theirs, PRESENTER)
    assert runs.list_runs() == ([], [])


@pytest.mark.parametrize("wrong", ["", "Correct horse battery", PASSWORD + " ", PASSWORD[:-1], "é\ud800"])
def test_a_wrong_password_is_refused_in_one_sentence(room, wrong):
    with pytest.raises(UserError, match="^That is not the presenter's password.$"):
        access.enter(wrong, TWO)
    assert not access.allowed(TWO)


@pytest.mark.parametrize("set_to", ["", "1234567"])
def test_a_password_that_is_empty_or_short_opens_nothing(monkeypatch, set_to):
    monkeypatch.setenv(access.PASSWORD, set_to)
    with pytest.raises(UserError, match="lets nobody in"):
        access.enter(set_to, ONE)
    assert not access.allowed(ONE)


def fail(who, address=None):
    with pytest.raises(UserError) as caught:
        access.enter("a guess", who, address)
    return "Too many" in str(caught.value)


def test_guessing_is_slow_from_one_browser_and_from_one_address(room, fresh):
    assert [fail("one browser") for _ in range(access.TRIES + 1)] == [False] * access.TRIES + [True]
    assert [fail(f"browser {i}", "10.0.0.7") for i in range(access.TRIES + 1)] == [False] * access.TRIES + [True]
    with pytest.raises(UserError, match="Too many"):  # the right one is not told from a wrong one meanwhile
        access.enter(PASSWORD, "one browser")
    access.enter(PASSWORD, ONE, "10.0.0.8")  # others are let in
    fresh[0] += access.WINDOW + 1
    access.enter(PASSWORD, "one browser")


def test_guessing_is_slow_from_everywhere_together(room):
    assert sum(not fail(f"browser {i}", f"10.0.0.{i}") for i in range(200)) == access.ALL_TRIES


def test_there_are_never_more_presenters_than_fit(room):
    for i in range(access.MAX_PRESENTERS + 5):
        access.enter(PASSWORD, f"browser {i}")
    assert not access.presenter("browser 0") and access.presenter(f"browser {access.MAX_PRESENTERS + 4}")
