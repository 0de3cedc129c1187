"""``kd bench``: measure the speed of training. The benchmarks are in the repository, not in the package."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from types import ModuleType
from typing import Any

from kd.cli.output import add_json, nothing_kept
from kd.errors import UserError


def add(commands: Any) -> None:
    """Add the command."""
    help = "measure the speed of training against a conventional loop (some 15 minutes on 2 cores)"
    command = commands.add_parser("bench", help=help, description=help)
    command.add_argument(
        "--rounds",
        type=int,
        default=3,
        metavar="N",
        help="alternating rounds of each measurement (default: 3)",
    )
    add_json(command)
    command.set_defaults(run=run, kept=nothing_kept)


def run(given: argparse.Namespace) -> int:
    """Measure and print."""
    if not 1 <= given.rounds <= 100:
        raise UserError("--rounds must be between 1 and 100.")
    engine = _engine()
    result = engine.run(
        given.rounds, lambda what: print(f"kd: measuring {what}…", file=sys.stderr, flush=True)
    )
    print(json.dumps(result) if given.json else engine.table(result))
    return 0


def _engine() -> ModuleType:
    try:
        return importlib.import_module("benchmarks.engine")
    except ModuleNotFoundError as error:
        if error.name not in ("benchmarks", "benchmarks.engine"):
            raise
        raise UserError(
            "The benchmarks are not installed with kd. "
            "Clone the repository and run this command in its folder."
        ) from None
