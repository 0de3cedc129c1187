"""Many spectators of one run, simulated without browsers as in the benchmarks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from benchmarks import watched
from benchmarks.viewer import Viewer
from kd.jobs.snapshot import pace
from tests.serving import Server


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run in another thread, because Playwright has an event loop in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


def test_pace_slows_as_viewers_grow_but_not_for_the_owner(
    server: Server,
) -> None:
    async def people() -> None:
        async with contextlib.AsyncExitStack() as room:
            owner = await room.enter_async_context(Viewer(server.link(**server.endless())))
            await owner.press("start")
            await owner.until(lambda: owner.epoch, "an epoch")
            guests = [await room.enter_async_context(Viewer(owner.link)) for _ in range(3)]
            for guest in guests:
                first = owner.epoch
                await guest.until(
                    lambda guest=guest, first=first: (guest.epoch or 0) > first, "a later epoch, seen by each"
                )
                await guest.until(
                    lambda guest=guest: guest.interval == pytest.approx(pace(4)), "the pace for four"
                )
            assert owner.interval == pace(1)
            await owner.press("stop")
            for viewer in [owner, *guests]:
                await viewer.until(lambda viewer=viewer: viewer.interval is None, "rest after the run's end")

    run(people())
    assert not server.complaints()


def test_speed_of_a_watched_training_is_measured(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "SETTLE", 0.1)
    monkeypatch.setattr(watched, "PACE", 0.1)
    found = run(watched.measure(server, 2, 1, 0.5, server.endless()))
    assert found["viewers"] == 2 and found["ticks_per_second"] > 1
    assert found["ratio"] == pytest.approx(
        found["epochs_per_second"]["polling"] / found["epochs_per_second"]["idle"]
    )
