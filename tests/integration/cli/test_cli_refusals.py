"""Commands refuse before they train; an empty option is never ignored."""

import argparse

import pytest

from kd.cli import main as cli
from kd.data import sources
from kd.store import safe_files
from kd.teachers import catalogue
from kd.training import loop

FAST = ["--student", "mlp-30", "--epochs", "1", "--batch-size", "100"]
TRAIN = ["teacher", "--teacher", "mlp-30", "--epochs", "1", "--batch-size", "100"]


@pytest.fixture
def untrained(monkeypatch):
    """Fail the test at the first optimizer step."""
    monkeypatch.setattr(loop.Training, "_train", lambda *_: pytest.fail("a step was made"))


# -- storage that cannot be written to -------------------------------------------------------------


@pytest.mark.parametrize("command", [["distil", *FAST], TRAIN, ["sweep"], ["study"], ["search"]])
@pytest.mark.parametrize("below", ["", "runs"])
def test_unwritable_home_is_refused_before_training(run, home, untrained, monkeypatch, command, below):
    home.touch()
    monkeypatch.setenv("KD_HOME", str(home / below))
    code, out, err = run(*command)
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith(
        f"kd: The run was not started because {home / below} cannot be written to: change its permissions"
    )


def test_full_disk_is_refused_before_training(run, home, untrained, monkeypatch):
    def full(folder):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safe_files, "try_writing", full)
    assert (
        "kd: The run was not started because the disk is full: free some space in" in run("distil", *FAST)[2]
    )


def test_check_of_the_home_leaves_nothing_behind(home):
    safe_files.try_writing(home / "deep")
    assert not home.exists()


def test_unwritable_cache_is_refused_before_a_table(run, cache, untrained):
    cache.parent.mkdir(exist_ok=True)
    cache.touch()
    code, out, err = run("methods", "--quick")
    assert (code, out) == (2, "") and err.startswith(
        f"kd: The table was not started because {cache} cannot be"
    )


# -- shipping ----------------------------------------------------------------------------------------


@pytest.fixture
def weights(tmp_path, monkeypatch):
    folder = tmp_path / "package" / "weights"
    folder.mkdir(parents=True)
    monkeypatch.setattr(catalogue, "WEIGHTS", folder)
    return folder


@pytest.mark.parametrize("option", ["--ship", "--curve"])
@pytest.mark.parametrize("name", ["../../x", "/tmp/x", "a/b", "a.b", "a+b", "..", "x" * 41, "20260131"])
def test_teachers_name_never_leaves_the_folder(run, weights, untrained, monkeypatch, option, name):
    monkeypatch.setattr(sources, "Source", lambda: pytest.fail("data were asked for"))
    before = sorted(weights.parent.parent.rglob("*"))
    code, out, err = run(*TRAIN, option, name)
    assert (code, out) == (2, "") and err.startswith("kd: ") and "cannot name a teacher" in err
    assert sorted(weights.parent.parent.rglob("*")) == before


def test_symbolic_link_is_not_written_through(run, weights, untrained):
    outside = weights.parent / "outside"
    (weights / "mine.safetensors").symlink_to(outside)
    code, _, err = run(*TRAIN, "--ship", "mine")
    assert code == 2 and "is a symbolic link" in err and not outside.exists()


def test_shipping_from_the_sample_is_refused_before_training(run, quick, mnist, weights, untrained):
    quick._mnist = mnist
    code, _, err = run(*TRAIN, "--ship", "mine")
    assert code == 2 and "Only a teacher trained on all of MNIST can be shipped" in err


def test_curve_of_an_unknown_teacher_is_refused_before_training(run, weights, untrained):
    code, _, err = run(*TRAIN, "--curve", "mine")
    assert code == 2 and "The description of the teacher mine is missing" in err


# -- empty options -------------------------------------------------------------------------------------


def commands():
    """Return the parser of each command, by its name."""
    (found,) = [action for action in cli.parser()._actions if isinstance(action, argparse._SubParsersAction)]
    return found.choices


OPTIONS = [
    (name, action.option_strings[0])
    for name, command in commands().items()
    for action in command._actions
    if action.option_strings and action.nargs is None and "(default: none)" not in (action.help or "")
]


@pytest.mark.parametrize("command, option", OPTIONS, ids=lambda part: part.lstrip("-"))
def test_empty_option_is_refused(run, home, untrained, command, option):
    code, out, err = run(
        command, option, "", *(["20260101-120000-0123456789abcdef"] if command == "compare" else [])
    )
    assert (code, out) == (2, "") and "Traceback" not in err and not home.exists()


@pytest.mark.parametrize("option", ["--resume", "--ship", "--curve"])
def test_empty_name_is_reported_as_empty(run, option):
    assert f"argument {option}: it is empty; leave the option out" in run("teacher", option, "")[2]
