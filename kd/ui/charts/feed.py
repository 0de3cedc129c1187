"""The live feed of runs: one serialised snapshot for all spectators, not one script run each.

A spectator's browser fetches the feed at the interval that the feed itself asks for
(kd/ui/frontend/chart.js); kd/ui/server/routes.py serves it. A snapshot is drawn on request, at most twice per
interval, and its gzipped bytes are cached.
"""

from __future__ import annotations

import gzip
import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from kd.jobs.snapshot import Snapshot


def address(run_id: str) -> str:
    """Return the address of a run's feed, relative to the page's address."""
    return f"kd/feed/{run_id}"


@dataclass(frozen=True)
class Message:
    """The content of a run's feed at one moment.

    Attributes:
        key: equal for snapshots that give the same content.
        content: gzipped JSON, as ``chart.packed`` writes it.
        etag: the content's ETag, in quotes.
        fresh_until: the ``time.monotonic()`` until which the message is served unchecked.
    """

    key: tuple
    content: bytes
    etag: str
    fresh_until: float


class Feed:
    """The newest message of each run that somebody follows.

    Args:
        snapshot: returns a run's current snapshot without counting a viewer; None if the run is unknown.
        draw: returns the JSON of a snapshot.
    """

    def __init__(self, snapshot: Callable[[str], Snapshot | None], draw: Callable[[Snapshot], bytes]):
        self._snapshot, self._draw = snapshot, draw
        self._messages: dict[str, Message] = {}
        self._drawing: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def fresh(self, run_id: str) -> Message | None:
        """Return the newest message if it is recent enough, without waiting or computing."""
        message = self._messages.get(run_id)
        return message if message is not None and time.monotonic() < message.fresh_until else None

    def newest(self, run_id: str) -> Message | None:
        """Return the run's message, drawn again if anything changed; None if the run is unknown.

        While one thread draws, other threads get the older message if there is one.
        """
        with self._lock:
            drawing = self._drawing.setdefault(run_id, threading.Lock())
        older = self._messages.get(run_id)
        if not drawing.acquire(blocking=older is None):
            return older
        try:
            return self.fresh(run_id) or self._drawn(run_id)
        finally:
            drawing.release()

    def _drawn(self, run_id: str) -> Message | None:
        snap, older = self._snapshot(run_id), self._messages.get(run_id)
        if snap is None:
            self._forget()
            return None
        key = (snap.version, snap.state, snap.saved, snap.pace)
        fresh_until = time.monotonic() + snap.pace / 2
        if older is not None and older.key == key:
            message = replace(older, fresh_until=fresh_until)
        else:
            content = self._draw(snap)
            etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
            message = Message(key, gzip.compress(content, 1), etag, fresh_until)
        self._messages[run_id] = message
        return message

    def _forget(self) -> None:
        """Drop the messages of runs that no longer exist."""
        with self._lock:
            for run_id in list(self._drawing):
                if self._snapshot(run_id) is None:
                    self._drawing.pop(run_id, None)
                    self._messages.pop(run_id, None)
