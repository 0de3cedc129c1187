"""``kd compare``: measure stored runs side by side."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from tqdm import tqdm

from kd.cli.output import add_json, load_mnist, nothing_kept
from kd.device import training_device
from kd.errors import UserError
from kd.evaluation.comparison import measured, teacher_of, text
from kd.store import runs
from kd.teachers import catalogue


def add(commands: Any) -> None:
    """Add the command."""
    help = (
        "measure latency, size and accuracy of stored runs, students and teachers in alternating rounds, "
        "and keep them with the runs"
    )
    command = commands.add_parser("compare", help=help, description=help)
    command.add_argument(
        "runs",
        metavar="RUN",
        nargs="+",
        help="the id of a stored run, as the command that trained it printed",
    )
    add_json(command)
    command.set_defaults(run=run, kept=nothing_kept)


def run(given: argparse.Namespace) -> int:
    """Measure runs, store the measures with each run, and print them."""
    chosen = [runs.load(id) for id in given.runs]
    for run in chosen:
        if not (run.about.comparable and run.measures):
            raise UserError(
                f"{run.id} has no network to measure; name runs of the command distil, teacher or compress."
            )
    runs.check_writable()
    mnist, found = load_mnist(), {}
    for run in tqdm(chosen, unit="run", file=sys.stderr):
        found[run.id] = measured(run, mnist, catalogue.load(teacher_of(run), training_device()))
    print(json.dumps(found) if given.json else text(found))
    return 0
