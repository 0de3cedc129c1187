"""The clock that leaves out the time in which the process stood still."""

import pytest

from kd.training import clock
from tests.helpers import wait_until


@pytest.fixture
def times(monkeypatch):
    """A list that holds the system's time, and a clock that reads it without a thread of its own."""
    found = [100.0]
    monkeypatch.setattr(clock.Clock, "_beat", lambda self: None)
    return found, clock.Clock(lambda: found[0])


def test_clock_runs_as_the_systems(times):
    system, ours = times
    begun = ours.now()
    for _ in range(60):
        system[0] += 1.0
        ours.now()
    assert ours.now() - begun == pytest.approx(60)


def test_standstill_is_left_out(times):
    system, ours = times
    begun = ours.now()
    system[0] += 600.0
    assert ours.now() == begun
    system[0] += 5.0
    assert ours.now() - begun == pytest.approx(5)


def test_clock_that_is_put_back_never_runs_backwards(times):
    system, ours = times
    begun = ours.now()
    system[0] -= 50.0
    assert ours.now() == begun


def test_clock_reads_itself_while_nobody_does(monkeypatch):
    monkeypatch.setattr(clock, "BEAT", 0.01)
    readings = []
    ours = clock.Clock(lambda: readings.append(0.0) or 0.0)
    ours.now()
    wait_until(lambda: len(readings) > 5, "the clock's own readings")
