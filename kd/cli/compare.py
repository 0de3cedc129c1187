"""``kd compare``: measure stored runs side by side."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from tqdm import tqdm

from kd.cli.output import add_json, load_mnist, not_empty, nothing_kept, say
from kd.device import training_device
from kd.errors import UserError
from kd.evaluation import comparison, speeds, text
from kd.store import finding, runs
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
        type=not_empty,
        help="a stored run: its id, its name, or how its id begins",
    )
    command.add_argument(
        "--known", action="store_true", help="show sizes and accuracies, which are known without measuring"
    )
    add_json(command)
    command.set_defaults(run=run, kept=nothing_kept)


def run(given: argparse.Namespace) -> int:
    """Measure runs, store the measures with each run, and print them."""
    chosen = [finding.find(text) for text in given.runs]
    for run in chosen:
        if not (run.about.comparable and run.measures):
            raise UserError(
                f"{run.id} has no network to measure; name runs of the command distil, teacher or compress."
            )
    if given.known:
        facts = {run.id: comparison.known(run) for run in chosen}
        print(json.dumps(facts) if given.json else text.without_measuring(chosen))
        return 0
    runs.check_writable()
    teachers = {run.id: catalogue.load(comparison.teacher_of(run), training_device()) for run in chosen}
    mnist = load_mnist()
    architectures = [network.architecture for network in (*chosen, *teachers.values())]
    evaluated = [run.architecture for run in chosen if comparison.stored(run) is None for _ in run.models]
    seconds = speeds.expected_seconds(architectures, evaluated, len(mnist.test))
    say(f"this takes about {speeds.duration(seconds)}; nothing else should run on this machine")
    with tqdm(total=100, unit="%", file=sys.stderr) as bar:

        def progress(share: float, what: str) -> None:
            bar.update(round(100 * share) - bar.n)
            bar.set_description_str(f"{what} ")

        found, problems = comparison.measure(chosen, mnist, lambda run: teachers[run.id], progress=progress)
    for id, problem in problems.items():
        say(f"{id}: {problem}")
    if found:
        print(json.dumps(found) if given.json else text.table(found))
    return 2 if problems else 0
