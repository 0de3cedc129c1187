"""Start and end of the server process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from anyio import to_thread

_closing: list[Callable[[], None]] = []


def at_end(close: Callable[[], None]) -> None:
    """Have ``close`` called when the server ends."""
    _closing.append(close)


def close_all() -> None:
    """Call what was given to ``at_end``, each once, the newest first."""
    while _closing:
        _closing.pop()()


@asynccontextmanager
async def lifespan(app: Any) -> AsyncIterator[None]:
    """Stop the worker when the server ends, so that each run in training keeps a checkpoint.

    The server ends itself by the signal that it received (exit code 143 for SIGTERM), so ``atexit`` handlers do not
    run. Closing waits up to five seconds, in a thread, so that the event loop stays free meanwhile.
    """
    try:
        yield
    finally:
        await to_thread.run_sync(close_all)
