"""A run as all see it who only watch: one small file that their browsers fetch, instead of a script run for each look.

A thread draws the run's charts anew while it goes on, at the pace for as many as watch it, and puts them among the files
that Streamlit serves from memory: from the disk, through threads of their own, training kept 0.66 of its speed in a room of fifty,
instead of 0.76. What shows it is kd/ui/charts/chart.py.
"""

from __future__ import annotations

import gzip
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from streamlit import runtime

from kd.jobs.manager import JobManager, Snapshot

KEPT = 600.0  # seconds that a file stays after its run's end, for browsers that slept
_begun: dict[str, threading.Thread] = {}  # run's id -> what draws its file
_ended: dict[str, float] = {}  # run's id -> when it ended, by time.monotonic()
_beginning = threading.Lock()
log = logging.getLogger(__name__)


def address(manager: JobManager, snap: Snapshot, drawn: Callable[[Snapshot], bytes]) -> str:
    """Where browsers find a run under way, below the page's address, from now on until it has ended.

    Args:
        drawn: the charts as they are sent; called in a thread of its own.
    """
    with _beginning:
        if snap.id not in _begun:
            _forget()
            try:
                _put(snap.id, drawn(snap))  # now: whoever is told the address finds it
            except (ImportError, AttributeError) as error:
                log.warning(
                    "Who watches run %s sees it seldom: this version of Streamlit keeps its files in another way (%s).",
                    snap.id,
                    error,
                )
            else:
                _begun[snap.id] = threading.Thread(
                    target=_publish, args=(manager, snap, drawn), name="kd-broadcast", daemon=True
                )
                _begun[snap.id].start()
    return f"media/{_name(snap.id)}.gz"


def _publish(manager: JobManager, snap: Snapshot, drawn: Callable[[Snapshot], bytes]) -> None:
    """Draws the file whenever there is something new, until the run has ended."""
    id, shown = snap.id, (snap.version, snap.pace)
    try:
        while snap is not None and snap.active:
            time.sleep(snap.pace / 2)  # so that hardly a look finds nothing new
            snap = manager.snapshot(id, counts=False)
            if snap is not None and (snap.version, snap.pace) != shown:
                shown = snap.version, snap.pace
                _put(id, drawn(snap))
    finally:
        with _beginning:
            _ended[id] = time.monotonic()
            del _begun[id]


def _forget() -> None:
    """Removes what ended long ago."""
    for id in [id for id, when in _ended.items() if time.monotonic() - when > KEPT]:
        del _ended[id]
        if id not in _begun:  # it was resumed
            _files().pop(_name(id), None)


def _put(id: str, content: bytes) -> None:
    from streamlit.runtime.media_file_storage import MediaFileKind
    from streamlit.runtime.memory_media_file_storage import MemoryFile

    _files()[_name(id)] = MemoryFile(gzip.compress(content, 1), "application/gzip", MediaFileKind.MEDIA, None)


def _files() -> dict[str, Any]:
    """What Streamlit serves from memory. In public it takes new content only under a new address."""
    return runtime.get_instance().media_file_mgr._storage._files_by_id


def _name(id: str) -> str:
    return f"live-{id}"
