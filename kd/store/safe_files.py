"""Safe reading and atomic replacement of small text files, in a folder that others may have changed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import tempfile
import unicodedata
from pathlib import Path
from typing import Any

LARGEST = 16 * 2**20  # maximum bytes of a text file; the longest runs write less than 1 MB


def on_disk(path: Path) -> None:
    """Flush the file to the disk, so that it is not empty after a power cut that follows its renaming."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def try_writing(folder: Path) -> None:
    """Check that files can be written to ``folder``, or that it can be created. Nothing is left behind.

    Raises:
        OSError: they cannot.
    """
    folder = folder.absolute()
    there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    with tempfile.TemporaryFile(dir=there) as file:
        file.write(bytes(4096))
        file.flush()


def replace(path: Path, text: str) -> None:
    """Replace the file's content atomically. A symbolic link under the temporary name is not followed."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        temporary.write_text(text)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def remove_folder(folder: Path) -> None:
    """Delete a folder: first rename it, so that no list shows it, then remove it.

    Raises:
        OSError: it cannot be renamed.
    """
    gone = folder.with_name(f".{folder.name}.deleted")
    os.rename(folder, gone)
    shutil.rmtree(gone, ignore_errors=True)


def read_text(path: Path) -> str:
    """Return the content of a run's text file.

    Raises:
        OSError, ValueError: the file is missing, a symbolic link, too large, or not text.
    """
    # Not every system has all of these flags. O_NONBLOCK prevents a named pipe from blocking.
    flags = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
    with open(os.open(path, os.O_RDONLY | flags), encoding="utf-8", newline="") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
            raise ValueError(f"{path} is not a file of a run")
        return file.read()


def read_json(path: Path) -> Any:
    """Return the content of a run's JSON file, in which all numbers are finite.

    Raises:
        OSError, ValueError: as for read_text(), or the file is not such JSON.
    """
    return parsed(read_text(path))


def parsed(text: str) -> Any:
    """Parse JSON in which all numbers are finite.

    Raises:
        ValueError: ``text`` is not such JSON.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not a finite number")

    try:
        return json.loads(text, parse_constant=refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def plain(text: Any) -> str:
    """Return the first 2,000 characters of ``text`` without invisible ones.

    Raises:
        TypeError: ``text`` is not a string.
    """
    return "".join(c for c in text[:2000] if unicodedata.category(c)[0] != "C")
