"""A clock that stands still while the whole process does.

A paused container, a suspended virtual machine or a stopped process gets no time, but the system's clock
goes on. A thread reads this clock every second; a longer gap between two readings was a standstill, and is
left out. So it counts neither as training time nor against the lease of a run's viewers.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

BEAT = 1.0  # seconds between two readings by the clock's own thread
STANDSTILL = 10.0  # seconds without any reading from which on the process was not running


class Clock:
    """Seconds since any moment, without standstills. Any thread may read it.

    Args:
        read: the system's clock.
    """

    def __init__(self, read: Callable[[], float] = time.perf_counter):
        self._read = read
        self._lock = threading.Lock()
        self._last, self._lost = read(), 0.0
        self._thread: threading.Thread | None = None

    def now(self) -> float:
        """Return the time in seconds."""
        with self._lock:
            now = self._read()
            gap = now - self._last
            if not 0 <= gap <= STANDSTILL:
                self._lost += gap
            self._last = now
            if self._thread is None or not self._thread.is_alive():  # a forked process has none
                self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
                self._thread.start()
            return now - self._lost

    def _beat(self) -> None:
        while True:
            time.sleep(BEAT)
            self.now()


_process = Clock()


def now() -> float:
    """Return the time of this process in seconds, since any moment and without standstills."""
    return _process.now()
