"""The command line on poor consoles: missing characters, readers that go, interrupted imports."""

import io
import os
import subprocess
import sys

import pytest
import torch

from kd import paths
from kd.cli import main as cli
from kd.cli import train
from kd.device import training_device
from kd.errors import UserError


@pytest.fixture
def printed(monkeypatch):
    """Return a function that makes stdout a console of an encoding and returns what was printed to it."""

    def on(encoding):
        console = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, "stdout", console)
        return lambda: console.buffer.getvalue().decode(encoding)

    return on


@pytest.mark.parametrize("encoding", ["ascii", "cp866", "latin-1", "utf-8"])
@pytest.mark.parametrize("command", [name for name in ("", "distil", "teacher", "sweep", "study", "paper")])
def test_help_is_printed_on_any_console(printed, encoding, command):
    text = printed(encoding)
    with pytest.raises(SystemExit) as end:
        cli.main([*filter(None, [command]), "--help"])
    assert end.value.code == 0 and "--help" in text()


def test_character_that_a_console_lacks_is_spelt_out(printed, monkeypatch):
    result = {
        "run": "x",
        "seconds": 1,
        "source": "full",
        "curves": {"student": [{"value": 1.0, "mean": 0.5, "sd": 0.1}]},
    }

    class Command:
        def parse_args(self, arguments):
            return self

        def run(self, given):
            train.print_table(result)
            print("×…é火")
            return 0

    monkeypatch.setattr(cli, "parser", Command)
    text = printed("ascii")
    assert cli.main([]) == 0
    assert "50.00% +- 10.00%" in text() and text().endswith("x...e?\n")


def test_reader_that_has_gone_ends_the_command_quietly(monkeypatch, capfd):
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert cli.main(["--help"]) == 141
        pipe.write("more")
    assert capfd.readouterr().err == ""


def test_interrupt_during_imports_gives_a_sentence():
    script = """
import os, signal, sys
class Interrupt:
    def find_spec(self, name, *_):
        if name == "kd.cli":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
from kd.__main__ import main
sys.exit(main())
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (130, "kd: stopped; nothing was stored.\n")


def test_command_line_works_without_docstrings():
    """Python 3 removes docstrings and assertions with -OO, as with PYTHONOPTIMIZE=2."""
    words = [sys.executable, "-OO", "-m", "kd", "distil", "--epochs", "0"]
    found = subprocess.run(words, capture_output=True, text=True)
    assert found.stderr == "kd: Epochs must be between 1 and 200, not 0.\n" and found.returncode == 2


# -- the device ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["banana", "meta", "cuda:99", "cpu:x", "1"])
def test_unusable_device_is_refused_in_a_sentence(monkeypatch, name):
    monkeypatch.setenv("KD_DEVICE", name)
    with pytest.raises(UserError, match=f"KD_DEVICE is {name!r}, on which PyTorch cannot compute here"):
        training_device()


def test_usable_device_is_taken(monkeypatch):
    monkeypatch.setenv("KD_DEVICE", "cpu")
    assert training_device() == torch.device("cpu")


def test_unusable_device_is_one_line_on_the_command_line(monkeypatch, capsys):
    monkeypatch.setenv("KD_DEVICE", "banana")
    assert cli.main(["distil"]) == 2
    assert capsys.readouterr().err.startswith("kd: KD_DEVICE is 'banana'")


def test_no_program_needs_its_docstring():
    folders = [paths.ROOT / name for name in ("kd", "pages", "benchmarks", "tests/stage")]
    files = [path for folder in folders for path in folder.rglob("*.py") if "node_modules" not in path.parts]
    assert len(files) > 100 and not [path for path in files if "__doc__." in path.read_text()]
