"""Start and end of the server process."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import FrameType
from typing import Any

from anyio import to_thread

GRACE = 3.0  # seconds that clients have to disconnect, once everything is closed

_closing: list[Callable[[], None]] = []
_lock = threading.Lock()
log = logging.getLogger(__name__)


def at_end(close: Callable[[], None]) -> None:
    """Have ``close`` called when the server ends."""
    _closing.append(close)


def close_all() -> None:
    """Call what was given to ``at_end``, each once, the newest first. A second caller waits for the first."""
    with _lock:
        while _closing:
            _closing.pop()()


@asynccontextmanager
async def lifespan(app: Any) -> AsyncIterator[None]:
    """Stop the worker when the server ends, so that each run in training keeps a checkpoint.

    The server ends itself by the signal that it received (exit code 143 for SIGTERM), so ``atexit`` handlers
    do not run. It first waits for all clients to disconnect, without a limit: a phone that fell asleep during
    a download would keep it from ever coming here. Therefore the signal itself closes everything, and the
    process ends after ``GRACE`` seconds even if a client is still connected.
    """
    try:
        with _closed_by_signals():
            yield
    finally:
        await to_thread.run_sync(close_all)


@contextmanager
def _closed_by_signals() -> Iterator[None]:
    """Close everything as soon as SIGTERM or SIGINT comes; the server's own handler runs as well."""
    if threading.current_thread() is not threading.main_thread():  # only there can handlers be set
        yield
        return
    handlers: dict[int, Any] = {}

    def end(number: int, frame: FrameType | None) -> None:
        threading.Thread(target=_end, args=(number,), name="kd-end", daemon=True).start()
        if callable(handlers[number]):
            handlers[number](number, frame)

    for number in (signal.SIGTERM, signal.SIGINT):
        handlers[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _end(number: int) -> None:
    close_all()
    time.sleep(GRACE)
    log.warning("A client is still connected after %g s; the server ends all the same.", GRACE)
    os._exit(128 + number)
