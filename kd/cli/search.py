"""``kd search``: search a student's settings."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from typing import Any

from tqdm import tqdm

from kd.cli import logs
from kd.cli.output import add_json, all_kept, load_mnist, say
from kd.config.search import SearchConfig
from kd.device import training_device
from kd.store import runs
from kd.sweeps import search, search_journal, search_results
from kd.teachers import catalogue, doubts
from kd.training.loop import Record


def add(commands: Any) -> None:
    """Add the command."""
    help = (
        "search a student's settings by Optuna, on the validation images alone; "
        "can be stopped and started again, with more trials too"
    )
    command = commands.add_parser("search", help=help, description=help)
    SearchConfig.add_arguments(command)
    add_json(command)
    logs.add_arguments(command)
    command.set_defaults(run=run, kept=all_kept)


def run(given: argparse.Namespace) -> int:
    """Search with a progress bar and print the best trial."""
    config = SearchConfig.from_arguments(given)
    runs.check_writable()
    teacher, mnist = catalogue.load(config.teacher, training_device()), load_mnist()
    if doubt := doubts.of(teacher, mnist.to(training_device()).glance):
        say(f"warning: {doubt}")
    log = logs.opened(given, search_journal.folder(config, mnist, teacher).name, config.to_dict())
    with contextlib.closing(log), tqdm(unit="epoch", file=sys.stderr) as bar:
        experiment = search.Search(config, mnist, teacher)

        def note(trial: int, record: Record) -> None:
            bar.update()
            bar.set_description_str(f"trial {trial + 1} ")
            bar.set_postfix({name: f"{value:.2%}" for name, value in record.validation_accuracy.items()})
            log.write(experiment.series(record))

        found = search.driven(experiment, note)
    print(json.dumps(found) if given.json else search_results.summary(found))
    return 0
