"""The commands that measure a table: methods, schemes, distilbert, techniques and paper."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from tqdm import tqdm

from kd import paths
from kd.cli.output import add_json, all_kept
from kd.errors import UserError
from kd.store import safe_files
from kd.tables import distilbert, methods, paper, schemes, techniques


@dataclass(frozen=True)
class Table:
    """A table that a command measures."""

    name: str
    module: ModuleType  # of kd.tables
    help: str
    one_epoch: bool = False  # --quick trains for one epoch alone


TABLES = (
    Table(
        "methods",
        methods,
        "compare all methods on one student, with few labels and with all",
        one_epoch=True,
    ),
    Table("schemes", schemes, "compare all schemes, who teaches whom, on the same student", one_epoch=True),
    Table(
        "distilbert",
        distilbert,
        "halve a Transformer by DistilBERT's recipe, from its layers and from random weights",
    ),
    Table(
        "techniques",
        techniques,
        "compress a student by each technique alone, and fine-tune it with the teacher and from labels",
    ),
    Table("paper", paper, "reproduce the table of Hinton, Vinyals & Dean 2015, section 3"),
)


def add(commands: Any) -> None:
    """Add a command for each table."""
    for table in TABLES:
        command = commands.add_parser(
            table.name, help=table.help, description=f"{table.help}; can be stopped and started again"
        )
        command.add_argument(
            "--seeds",
            type=int,
            default=table.module.SEEDS,
            metavar="N",
            help=f"seeds of each row (default: {table.module.SEEDS})",
        )
        quick = "one seed and one epoch" if table.one_epoch else "one seed"
        command.add_argument("--quick", action="store_true", help=f"{quick} alone")
        add_json(command)
        if table.module is paper:
            command.add_argument(
                "--store",
                action="store_true",
                help="go on from the table that the app shows, and put the new one in its place",
            )
        command.set_defaults(run=run, kept=all_kept, table=table, store=False)


def run(given: argparse.Namespace) -> int:
    """Measure a table with a progress bar and print it."""
    if not 1 <= given.seeds <= 100:
        raise UserError("--seeds must be between 1 and 100.")
    table: Table = given.table
    options: dict[str, Any] = {"epochs": 1} if given.quick and table.one_epoch else {}
    _check_writable(paths.cache_folder(), ", or set KD_CACHE_DIR")
    if given.store:
        _check_writable(paths.MEASURED)
        options["before"] = paper.load()
    with tqdm(total=100, unit="%", bar_format="{l_bar}{bar}| {elapsed}<{remaining}", file=sys.stderr) as bar:

        def progress(share: float) -> None:
            bar.update(100 * share - bar.n)

        result = table.module.run(1 if given.quick else given.seeds, progress=progress, **options)
    if given.store:
        paper.store(result)
    print(json.dumps(result) if given.json else table.module.text(result))
    return 0


def _check_writable(folder: Path, otherwise: str = "") -> None:
    """Raise a UserError, before anything trains for it, where results could not be written."""
    try:
        safe_files.try_writing(folder)
    except OSError as error:
        raise UserError(
            f"The table was not started because {folder} cannot be written to ({error.strerror}): "
            f"change its permissions{otherwise}."
        ) from None
