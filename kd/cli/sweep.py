"""``kd sweep``: a sweep can train on a Ray cluster."""

from __future__ import annotations

import argparse
from typing import Any

from kd.cli.output import not_empty
from kd.cli.train import Extra
from kd.errors import UserError
from kd.experiments.base import Experiment
from kd.sweeps import cluster


class Cluster(Extra):
    """Options that choose where the groups of cells train."""

    def add_arguments(self, command: argparse.ArgumentParser) -> None:
        """Add --engine, --address and --gpus."""
        command.add_argument(
            "--engine",
            choices=["local", "ray"],
            default="local",
            help="where its groups of cells train: one after another here, or on a Ray cluster",
        )
        command.add_argument(
            "--address",
            type=not_empty,
            metavar="HOST:PORT",
            help=(
                "of the Ray cluster's head, or auto on one of its machines "
                "(default: a cluster of this machine's cores)"
            ),
        )
        command.add_argument(
            "--gpus",
            type=float,
            default=0.0,
            metavar="X",
            help="share of a GPU that each task on the cluster takes for itself (default: 0, the CPU)",
        )

    def check(self, given: argparse.Namespace) -> None:
        """Raise a UserError where an option of a cluster is given without one."""
        if given.engine != "ray" and (given.address or given.gpus):
            raise UserError("--address and --gpus are for a cluster; add --engine ray.")

    def experiment(self, experiment: Any, given: argparse.Namespace) -> Experiment:
        """Return the sweep, on the cluster where one was asked for."""
        return (
            cluster.ClusterSweep(experiment, given.address or "", given.gpus)
            if given.engine == "ray"
            else experiment
        )
