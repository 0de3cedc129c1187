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

GRACE = 3.0  # seconds for clients to disconnect once everything is closed

_closing: list[Callable[[], None]] = []
_lock = threading.Lock()
log = logging.getLogger(__name__)


def at_end(close: Callable[[], None]) -> None:
    """Register ``close`` to be called when the server stops."""
    _closing.append(close)


def close_all() -> None:
    """Call each registered function once, newest first. A second caller waits for the first."""
    with _lock:
        while _closing:
            _closing.pop()()


@asynccontextmanager
async def lifespan(app: Any) -> AsyncIterator[None]:
    """Stop the worker when the server stops, so that each run in training keeps a checkpoint.

    The server ends by re-raising the signal that it received (exit code 143 for SIGTERM), so ``atexit``
    handlers do not run. Before that it waits for all clients to disconnect, without a time limit: with a
    phone that fell asleep during a download, it would never get to the end of this function. So the signal
    handler closes everything, and the process ends after ``GRACE`` seconds even if a client is connected.
    """
    try:
        with _closed_by_signals():
            yield
    finally:
        await to_thread.run_sync(close_all)


@contextmanager
def _closed_by_signals() -> Iterator[None]:
    """Close everything as soon as SIGTERM or SIGINT arrives; the server's own handler runs too."""
    if threading.current_thread() is not threading.main_thread():  # handlers can only be set there
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
    log.warning("A client is still connected after %g s; the server stops anyway.", GRACE)
    os._exit(128 + number)
