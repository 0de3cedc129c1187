"""The files that commands write: never over another file, unless that is asked for."""

from __future__ import annotations

import argparse
import contextlib
import os
from pathlib import Path

from kd.cli.output import not_empty
from kd.errors import UserError
from kd.store import safe_files


def add_output(command: argparse.ArgumentParser, default: str) -> None:
    """Add the options --output and --force.

    Args:
        default: what the file is called without --output, for the help text.
    """
    command.add_argument(
        "-o",
        "--output",
        type=not_empty,
        metavar="FILE",
        help=f"the file to write (default: {default}, in this folder)",
    )
    command.add_argument("--force", action="store_true", help="replace the file if there is one")


def target(given: argparse.Namespace, default: str) -> Path:
    """Return the file to write, after checking, before any work, that it can be written.

    Args:
        given: has the options of add_output().
        default: its name without --output.

    Raises:
        UserError: it is there and --force was not given, is no ordinary file, or its folder is missing or
            cannot be written to.
    """
    path = Path(given.output or default)
    try:
        there = os.path.lexists(path)
        if there and (path.is_dir() or (path.exists() and not path.is_file())):
            raise UserError(f"{path} is not an ordinary file; give the name of a file with -o.")
        if there and not given.force:
            raise UserError(f"{path} exists; choose another name with -o, or replace it with --force.")
        with contextlib.suppress(FileNotFoundError):
            os.lstat(path)  # fails if the name is too long, for example
        if not path.parent.is_dir():
            raise UserError(f"There is no folder {path.parent}; create it, or choose another with -o.")
        safe_files.try_writing(path.parent)
    except OSError as error:
        raise UserError(_cannot_write(path, error)) from None
    return path


def write(path: Path, content: bytes, force: bool) -> None:
    """Write a whole file or none; only with ``force`` over another one, which stays until then.

    Raises:
        UserError: it cannot be written, or another program has just made a file of this name.
    """
    unfinished = path.with_name(f".kd-{os.getpid()}.tmp") if force else path
    try:
        with open(unfinished, "xb") as file:
            try:
                file.write(content)
                file.flush()
            except BaseException:  # Ctrl-C too
                with contextlib.suppress(OSError):
                    unfinished.unlink()
                raise
        if force:
            os.replace(unfinished, path)
    except OSError as error:
        raise UserError(_cannot_write(path, error)) from None


def _cannot_write(path: Path, error: OSError) -> str:
    return f"{path} cannot be written ({error.strerror or error}); choose another file with -o."
