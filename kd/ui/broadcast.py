"""A run as all see it who only watch: one small file that their browsers fetch, instead of a script run for each look.

A thread draws the run's charts anew while it goes on, at the pace for as many as watch it, and writes them into the
folder that Streamlit serves. So a look costs the server the reading of a file. What shows it is kd/ui/chart.py.
"""

from __future__ import annotations

import contextlib
import gzip
import logging
import os
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

from kd import jobs
from kd.ui.chart import STATIC

KEPT = 600.0  # seconds that a file stays after its run's end, for browsers that slept
_begun: dict[str, threading.Thread] = {}  # run's id -> what writes its file
_beginning = threading.Lock()
log = logging.getLogger(__name__)


def address(manager: jobs.JobManager, snap: jobs.Snapshot, drawn: Callable[[jobs.Snapshot], bytes]) -> str:
    """Where browsers find a run under way, below app/static, from now on until it has ended.

    Args:
        drawn: the charts as they are sent; called in a thread of its own.
    """
    file = _file(snap.id)
    with _beginning:
        if snap.id not in _begun:
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                _tidy(file.parent)
                _write(file, drawn(snap))  # now: whoever is told the address finds it
            except OSError as error:
                _tell(snap.id, error)
            else:
                _begun[snap.id] = threading.Thread(target=_publish, args=(manager, snap, drawn), name="kd-broadcast", daemon=True)
                _begun[snap.id].start()
    return file.relative_to(STATIC).as_posix()


def _file(id: str) -> Path:
    return STATIC / "live" / f"{id}.gz"


def _publish(manager: jobs.JobManager, snap: jobs.Snapshot, drawn: Callable[[jobs.Snapshot], bytes]) -> None:
    """Writes the file whenever there is something new, until the run has ended."""
    id, file, written = snap.id, _file(snap.id), (snap.version, snap.pace)
    try:
        while snap is not None and snap.active:
            time.sleep(snap.pace / 2)  # so that hardly a look finds nothing new
            snap = manager.snapshot(id, counts=False)
            if snap is not None and (snap.version, snap.pace) != written:
                written = snap.version, snap.pace
                _write(file, drawn(snap))
            else:
                os.utime(file)  # it is in use
    except OSError as error:
        _tell(id, error)
    finally:
        with _beginning:
            del _begun[id]


def _tell(id: str, error: OSError) -> None:
    log.warning("Who watches run %s sees it seldom, since it cannot be written: %s", id, error)


def _write(file: Path, content: bytes) -> None:
    """Whole or not at all."""
    aside = file.with_suffix(f".{os.getpid()}.tmp")
    aside.write_bytes(packed(content))
    os.replace(aside, file)


def packed(content: bytes) -> bytes:
    """As gzip, filled up to the next power of two by an extra field of its header.

    The server tells a file's length and then opens it: if another took its place meanwhile, of another length, the answer
    would be broken off.
    """
    flags, extra = 3, 10  # places in the header
    plain = bytearray(gzip.compress(content, 1))
    size = 1 << max(15, (len(plain) + 1).bit_length())
    room = min(size - len(plain) - 2, 0xFFFF)
    plain[flags] |= 4
    plain[extra:extra] = struct.pack("<H", room) + bytes(room)
    return bytes(plain)


def _tidy(folder: Path) -> None:
    """Removes what ended long ago, or was left by a server that was killed."""
    for file in folder.iterdir():
        with contextlib.suppress(OSError):  # another server was first
            if time.time() - file.stat().st_mtime > KEPT:
                file.unlink()
