"""The console that a command prints to: characters it lacks, and a reader that has gone."""

from __future__ import annotations

import codecs
import contextlib
import os
import sys
import unicodedata
from typing import TextIO

#: The exit code of a command whose reader has gone, as of a process that SIGPIPE ends.
READER_GONE = 141
#: Our characters -> what to print where a console has no such character.
_PLAIN = {"±": "+-", "×": "x", "…": "...", "–": "-", "—": "-", "→": "->", "−": "-", "’": "'", "‘": "'"}


def prepare() -> None:
    """Let no character that the console lacks end a command in an error: print what comes closest."""
    codecs.register_error("kd.plain", _closest)
    for stream in _streams():
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="kd.plain")


def flush() -> None:
    """Print what is still buffered.

    Raises:
        BrokenPipeError: the reader has gone, as with ``| head``.
    """
    for stream in _streams():
        stream.flush()


def drop() -> None:
    """Print nothing more to a reader that has gone, so that Python's own end does not fail."""
    for stream in _streams():
        try:
            stream.flush()
        except BrokenPipeError:
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _streams() -> list[TextIO]:
    return [stream for stream in (sys.stdout, sys.stderr) if stream is not None]


def _closest(error: UnicodeError) -> tuple[str, int]:
    """Return ASCII text for the characters that an encoding lacks, and where to go on."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(map(_ascii, missing)), error.end


def _ascii(character: str) -> str:
    if character in _PLAIN:
        return _PLAIN[character]
    return unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode() or "?"
