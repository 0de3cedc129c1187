"""The command that runs all stress tests, and what counts as a kept promise."""

import importlib.util

import pytest

from tests.stage import __main__ as stage
from tests.stage import soak
from tests.stage.promise import Promise, share, tell


@pytest.fixture
def ran(monkeypatch):
    """Return the (name, options) that would have been run; soak falls short."""
    found = []
    monkeypatch.setattr(
        stage, "run", lambda name, options, minutes: found.append((name, options)) or int(name == "soak")
    )
    return found


def test_named_test_runs_with_its_options(ran, capsys):
    assert stage.main(["load", "--viewers", "3"]) == 0
    assert (
        ran == [("load", ["--viewers", "3"])] and "All promises were kept: load." in capsys.readouterr().out
    )


def test_all_run_although_one_fails_or_is_missing(ran, monkeypatch, capsys):
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name.endswith(("kills", "fuzz", "pages", "clicker")) else there(name),
    )
    assert stage.main([]) == 1
    assert [name for name, _ in ran] == ["load", "starts", "soak"]
    told = capsys.readouterr().out
    assert (
        "tests/stage/kills.py is not there" in told and "Not kept: soak, kills, fuzz, pages, clicker." in told
    )


def test_unknown_name_lists_the_known_ones(ran, capsys):
    assert stage.main(["sock"]) == 2 and not ran
    assert "There is no stress test sock; choose from load, starts" in capsys.readouterr().out


def test_hanging_test_is_ended(monkeypatch, capsys):
    monkeypatch.setattr(stage.sys, "executable", "/bin/sleep")
    popen = stage.subprocess.Popen
    monkeypatch.setattr(
        stage.subprocess, "Popen", lambda command, **options: popen(["sleep", "60"], **options)
    )
    assert stage.run("load", [], 0.002) == 1
    assert "FALLS SHORT  load was ended after" in capsys.readouterr().out


def test_promises_are_kept_or_not(capsys):
    kept = [Promise.below("a", 1.4, 1.5, " s"), Promise.least("b", 0.7, 0.7), Promise.none("c", [])]
    assert tell(kept) == 0
    assert tell([*kept, Promise.below("d", 1.5, 1.5)]) == 1
    assert tell([Promise.least("e", 0.69, 0.7)]) == tell([Promise.none("f", ["Traceback"])]) == 1
    assert capsys.readouterr().out.count("FALLS SHORT") == 3


def test_missing_measurement_keeps_no_promise():
    assert not Promise.below("a", share([], 95), 1.5).kept
    assert share([1, 2, 3, 4], 50) == 3 and share(list(range(100)), 95) == 95


def test_growth_is_detected_and_noise_is_not():
    assert soak.trend([100.0, 101, 99, 100, 101, 100]) == pytest.approx(0, abs=1)
    assert soak.trend([100.0 + i for i in range(11)]) == pytest.approx(10)
