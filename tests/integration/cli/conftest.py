"""Fixtures of the command-line tests: a few images, a small teacher, and a function that runs a command."""

from dataclasses import replace

import pytest

from kd.cli import main as cli
from kd.data import sources
from kd.teachers import catalogue
from tests.helpers import Given, small_teacher


@pytest.fixture(autouse=True)
def quick(home, monkeypatch, mnist):
    """Use a few images, and a small teacher under the name of the shipped one."""
    everything = Given(replace(mnist, source="full"))
    real = catalogue.load
    monkeypatch.setattr(sources, "Source", lambda: everything)
    monkeypatch.setattr(
        catalogue, "load", lambda name, device="cpu": small_teacher() if name == "cnn" else real(name, device)
    )
    return everything


@pytest.fixture
def run(capsys):
    """Return a function that runs a command and returns its exit code, stdout and stderr."""

    def call(*arguments):
        try:
            code = cli.main(list(arguments))
        except SystemExit as error:  # raised by argparse
            code = error.code
        return code, *capsys.readouterr()

    return call
