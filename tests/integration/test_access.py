"""The presenter's password: visitors without it may look and draw, and guesses are limited."""

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
    """Remove all presenters and stop the clock; return the time, which tests change."""
    monkeypatch.setattr(permissions, "_presenters", {})
    monkeypatch.setattr(permissions, "_entered", {})
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


def test_without_password_all_may_start_and_nobody_presents():
    permissions.check(TWO, "start runs")
    assert not permissions.closed() and not permissions.presenter(TWO)
    with pytest.raises(UserError, match="no presenter"):
        permissions.enter("anything", TWO)


def test_visitor_cannot_start_store_or_delete(room, mnist, monkeypatch):
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
    assert runs.load(run).name != "mine" and len(runs.list_runs()[0]) == 1, "the run is unchanged"


def test_only_the_browser_with_the_password_is_allowed(room):
    permissions.enter(PASSWORD, ONE)
    permissions.check(ONE, "start runs")
    assert permissions.presenter(ONE) and not permissions.allowed(TWO) and not permissions.allowed(None)
    permissions.leave(ONE)
    assert not permissions.allowed(ONE)


def test_presenter_manages_runs_of_others(room):
    theirs = store(VISITOR)
    permissions.enter(PASSWORD, ONE)
    runs.rename(theirs, "another name", PRESENTER)
    runs.delete(theirs, PRESENTER)
    assert runs.list_runs() == ([], [])


@pytest.mark.parametrize("wrong", ["", "Correct horse battery", PASSWORD + " ", PASSWORD[:-1], "é\ud800"])
def test_wrong_password_is_refused_in_one_sentence(room, wrong):
    with pytest.raises(UserError, match="^That is not the presenter's password.$"):
        permissions.enter(wrong, TWO)
    assert not permissions.allowed(TWO)


@pytest.mark.parametrize("set_to", ["", "1234567"])
def test_empty_or_short_password_lets_nobody_in(monkeypatch, set_to):
    monkeypatch.setenv(permissions.PASSWORD, set_to)
    with pytest.raises(UserError, match="lets nobody in"):
        permissions.enter(set_to, ONE)
    assert not permissions.allowed(ONE)


def fail(who, address=None):
    with pytest.raises(UserError) as caught:
        permissions.enter("a guess", who, address)
    return "Too many" in str(caught.value)


def test_guesses_are_limited_per_browser_and_per_address(room, fresh):
    assert [fail("one browser") for _ in range(permissions.TRIES + 1)] == [False] * permissions.TRIES + [True]
    assert [fail(f"browser {i}", "10.0.0.7") for i in range(permissions.TRIES + 1)] == [
        False
    ] * permissions.TRIES + [True]
    with pytest.raises(UserError, match="Too many"):  # even with the right password
        permissions.enter(PASSWORD, "one browser")
    permissions.enter(PASSWORD, ONE, "10.0.0.8")  # other browsers may enter
    fresh[0] += permissions.WINDOW + 1
    permissions.enter(PASSWORD, "one browser")


def test_guesses_are_limited_in_total(room):
    assert sum(not fail(f"browser {i}", f"10.0.0.{i}") for i in range(200)) == permissions.ALL_TRIES


@pytest.mark.parametrize("address", ["10.0.0.7", "behind the proxy"])
def test_made_up_tokens_do_not_lock_out_the_presenter(room, address):
    permissions.enter(PASSWORD, ONE, address)
    for i in range(500):
        fail(f"made up {i}", address)
    assert permissions.presenter(ONE)
    permissions.leave(ONE)
    permissions.enter(PASSWORD, ONE, address)  # a browser that has entered it before, at the same address
    permissions.enter(PASSWORD, "another browser", "10.0.0.8")


def test_many_addresses_do_not_lock_out_the_server_itself(room):
    for i in range(500):
        fail(f"made up {i}", f"10.0.{i // 250}.{i % 250}")
    permissions.enter(PASSWORD, ONE, permissions.THIS_MACHINE)


def test_addresses_of_one_ipv6_network_count_as_one(room):
    assert sum(not fail(f"browser {i}", f"2001:db8::{i:x}") for i in range(20)) == permissions.TRIES
    assert not fail("browser", "2001:db8:0:1::1") and not fail("browser b", "::ffff:10.0.0.7")
    for i in range(permissions.TRIES - 1):
        fail(f"browser c {i}", "10.0.0.7")
    assert fail("browser d", "10.0.0.7"), "the same address, written in both ways"


def test_known_presenters_guesses_are_limited_too(room):
    permissions.enter(PASSWORD, ONE, "10.0.0.7")
    assert [fail(ONE, "10.0.0.7") for _ in range(permissions.TRIES + 1)] == [False] * permissions.TRIES + [
        True
    ]


def test_number_of_presenters_is_limited(room):
    for i in range(permissions.MAX_PRESENTERS + 5):
        permissions.enter(PASSWORD, f"browser {i}")
    assert not permissions.presenter("browser 0") and permissions.presenter(
        f"browser {permissions.MAX_PRESENTERS + 4}"
    )
