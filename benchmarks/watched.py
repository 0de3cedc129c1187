"""Measure how much of its speed a training keeps while people watch it: a part of python -m kd bench.

A separate server trains one student; its viewers are websocket clients in this process, without a browser
but on the same cores. In alternating rounds they poll as browsers do, or are connected and idle.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.viewer import Viewer
from tests.server import Server

VIEWERS = (1, 10)
RUN = {"student": "mlp-128", "batch_size": 128, "epochs": 200}
PHASE = 6.0  # seconds
SETTLE = 1.0  # seconds between two phases
PACE = 6.0  # approximate seconds until all viewers poll at the pace for their number


async def mark(owner: Viewer) -> tuple[float, float]:
    """Wait for news of the training; return the time and the epoch on the page."""
    before = owner.epoch
    while owner.epoch == before:
        ticks = len(owner.ticks)
        await owner.poll()
        await owner.until(lambda ticks=ticks: len(owner.ticks) > ticks or not owner.interval, "an answer")
        if not owner.interval:
            raise RuntimeError("The run ended while it was measured.")
    return time.monotonic(), owner.epoch


async def _phase(viewers: list[Viewer], polling: bool, seconds: float) -> tuple[float, float]:
    """Return the training's epochs per second and the ticks per second of all viewers together."""
    for viewer in viewers:
        viewer.polling = polling
    await asyncio.sleep(SETTLE)
    ticks = sum(len(viewer.ticks) for viewer in viewers)
    begin, first = await mark(viewers[0])
    await asyncio.sleep(seconds)
    end, last = await mark(viewers[0])
    ticks = sum(len(viewer.ticks) for viewer in viewers) - ticks
    return (last - first) / (end - begin), ticks / (end - begin)


async def measure(
    server: Server, count: int, rounds: int, seconds: float = PHASE, run: Mapping[str, Any] = RUN
) -> dict[str, Any]:
    """Measure the training's speed with ``count`` viewers polling, relative to the same viewers idle.

    Args:
        server: the server to use.
        count: viewers; the first is the owner, whose page polls fastest.
        rounds: rounds; fewer if the run is too short.
        seconds: duration of each half of a round.
        run: the run's settings.
    """
    async with contextlib.AsyncExitStack() as stack:
        owner = await stack.enter_async_context(Viewer(server.link(**run)))
        await owner.press("start")
        await owner.until(lambda: owner.epoch, "a first epoch")
        viewers = [owner]
        for _ in range(count - 1):
            viewers.append(await stack.enter_async_context(Viewer(owner.link)))
        for viewer in viewers:
            await viewer.until(functools.partial(getattr, viewer, "epoch"), "an epoch seen by each")
        await asyncio.sleep(PACE if count > 1 else 0)
        idle, polling, ticks = [], [], []
        for turn in range(rounds):
            for poll in (False, True) if turn % 2 else (True, False):
                speed, rate = await _phase(viewers, poll, seconds)
                (polling if poll else idle).append(speed)
                ticks += [rate] if poll else []
            if owner.epoch > 0.75 * run["epochs"]:
                break
        await owner.press("stop")
    if complaints := server.complaints():
        raise RuntimeError(f"The server complained:\n{complaints}")
    ratios = [a / b for a, b in zip(polling, idle)]
    return {
        "viewers": count,
        "ratio": statistics.median(ratios),
        "low": min(ratios),
        "high": max(ratios),
        "epochs_per_second": {"polling": statistics.median(polling), "idle": statistics.median(idle)},
        "ticks_per_second": statistics.median(ticks),
    }


def watched(rounds: int) -> list[dict[str, Any]]:
    """Measure one and ten viewers, in twice as many rounds: a phase is short and differences are small."""
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder)) as server:
        return [asyncio.run(measure(server, count, 2 * rounds)) for count in VIEWERS]
