"""``kd teacher``: a teacher that was trained can be shipped with the package."""

from __future__ import annotations

import argparse

from kd.cli.output import not_empty
from kd.cli.train import Extra
from kd.experiments.base import Experiment
from kd.store import runs
from kd.teachers import shipping


class Shipping(Extra):
    """Options that write a shipped teacher, or how training one went."""

    def add_arguments(self, command: argparse.ArgumentParser) -> None:
        """Add --ship and --curve."""
        command.add_argument(
            "--ship",
            type=not_empty,
            metavar="NAME",
            help="also write it to kd/teachers/weights as a shipped teacher of this name",
        )
        command.add_argument(
            "--curve",
            type=not_empty,
            metavar="NAME",
            help=(
                "also store with the shipped teacher of this name and recipe how this training went; "
                "its weights stay"
            ),
        )

    def check(self, given: argparse.Namespace) -> None:
        """Check that what was asked for could be written."""
        for name in filter(None, (given.ship, given.curve)):
            shipping.check(name)

    def ready(self, experiment: Experiment, given: argparse.Namespace) -> None:
        """Check that this training may be shipped."""
        if given.ship:
            shipping.check_data(experiment.mnist)
        if given.curve:
            shipping.check_recipe(given.curve, experiment.config, experiment.mnist.digest)

    def finish(self, run: runs.Run, experiment: Experiment, given: argparse.Namespace) -> None:
        """Write what was asked for."""
        if given.ship:
            shipping.ship(given.ship, run, experiment.mnist)
        if given.curve:
            shipping.tell_again(given.curve, run, experiment.mnist)
