"""Small files of text in a folder that other hands may have touched: read without harm, replaced whole."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import unicodedata
from pathlib import Path
from typing import Any

LARGEST = 16 * 2**20  # bytes of a file of text; those of the longest runs have less than 1 MB


def on_disk(path: Path) -> None:
    """Waits until the file is on the disk: a power cut after its renaming must not find it empty."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def replace(path: Path, text: str) -> None:
    """Puts ``text`` in place of the file, whole. What is there under the temporary name, a link to elsewhere maybe, is not followed."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        temporary.write_text(text)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def read_text(path: Path) -> str:
    """A run's file of text.

    Raises:
        OSError, ValueError: it is missing, a link to elsewhere, too large to be ours, or no text.
    """
    flags = sum(
        getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY")
    )  # those that the system has; no pipe is waited for
    with open(os.open(path, os.O_RDONLY | flags), encoding="utf-8", newline="") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
            raise ValueError(f"{path} is no file of a run")
        return file.read()


def read_json(path: Path) -> Any:
    """A run's file of JSON, in which all numbers are finite.

    Raises:
        OSError, ValueError: as read_text(), or it is no such file.
    """
    return parsed(read_text(path))


def parsed(text: str) -> Any:
    """JSON in which all numbers are finite.

    Raises:
        ValueError: it is none.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no number")

    try:
        return json.loads(text, parse_constant=refuse)
    except RecursionError:
        raise ValueError("nested without end") from None


def plain(text: Any) -> str:
    """``text``, which must be one, without characters that cannot be seen."""
    return "".join(c for c in text[:2000] if unicodedata.category(c)[0] != "C")
