"""The entry point of the command line.

Progress goes to stderr; with --json the last line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import sys

from kd.cli import bench, compare, console, distil, networks, search, stored, sweep, tables, teacher, train
from kd.cli.output import say
from kd.config.kinds import KINDS
from kd.errors import UserError
from kd.training import distributed

#: What a command has beyond the settings of its kind of run.
EXTRAS: dict[str, train.Extra] = {
    "distil": distil.Methods(),
    "teacher": teacher.Shipping(),
    "sweep": sweep.Cluster(),
}


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands.

    Each command sets two functions of the parsed arguments: ``run`` returns the exit code, and ``kept``
    returns what is left when the command is stopped.
    """
    found = argparse.ArgumentParser(prog="python -m kd")
    commands = found.add_subparsers(dest="command", required=True)
    for kind in KINDS.values():
        if kind.help:
            train.add(commands, kind, EXTRAS.get(kind.name, train.Extra()))
    tables.add(commands)
    for module in (search, compare, bench, stored, networks):
        module.add(commands)
    names = " | ".join(commands.choices)
    commands.metavar = names
    found.description = f"The command line: python -m kd {names}."
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return the exit code.

    0 is success, and 1 a "no" that is an answer, such as a deletion that was declined. It is 2 after
    an error of the user, 130 after Ctrl-C, and 141 where nobody reads the output any more;
    docs/command-line.md documents them.

    Args:
        arguments: the command's words, such as ["distil", "--json"]; by default those of the process.
    """
    console.prepare()
    try:
        try:
            return _run(arguments)
        finally:
            console.flush()
    except BrokenPipeError:
        console.drop()
        return console.READER_GONE


def _run(arguments: list[str] | None) -> int:
    given = parser().parse_args(arguments)
    try:
        return given.run(given)
    except UserError as error:
        process = f", process {distributed.rank()}" if distributed.rank() else ""
        print(f"kd{process}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        say(f"stopped; {given.kept(given)}.")
        return 130
