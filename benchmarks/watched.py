"""How much of its speed a training keeps while people watch it: a part of python -m kd bench.

A server of its own trains one student; its viewers are websocket clients in this
process, without a browser, but on the same cores. In alternating rounds they poll as
browsers do, and are connected and idle.
"""

from __future__ import annotations

import asyncio
import contextlib
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
PACE = 6.0  # seconds, about, until all viewers have found the pace for as many as they are


async def mark(owner: Viewer) -> tuple[float, float]:
    """The moment at which the page has news of the training, and the epoch that it then tells."""
    before = owner.epoch
    while owner.epoch == before:
        ticks = len(owner.ticks)
        await owner.poll()
        await owner.until(lambda: len(owner.ticks) > ticks or not owner.interval, "an answer")
        if not owner.interval:
            raise RuntimeError("The run ended while it was measured.")
    return time.monotonic(), owner.epoch


async def _phase(viewers: list[Viewer], polling: bool, seconds: float) -> tuple[float, float]:
    """Epochs a second and ticks a second of all viewers together."""
    for viewer in viewers:
        viewer.polling = polling
    await asyncio.sleep(SETTLE)
    ticks = sum(len(viewer.ticks) for viewer in viewers)
    begin, first = await mark(viewers[0])
    await asyncio.sleep(seconds)
    end, last = await mark(viewers[0])
    return (last - first) / (end - begin), (sum(len(viewer.ticks) for viewer in viewers) - ticks) / (
        end - begin
    )


async def measure(
    server: Server, count: int, rounds: int, seconds: float = PHASE, run: Mapping[str, Any] = RUN
) -> dict[str, Any]:
    """The training's speed with ``count`` viewers polling, as a share of that with the same ones idle.

    The first of them is the owner, whose page is the quickest. ``seconds`` is what each
    half of a round takes; ``run`` are the settings. Fewer rounds are done where the run is too short for them.
    """
    async with contextlib.AsyncExitStack() as stack:
        owner = await stack.enter_async_context(Viewer(server.link(**run)))
        await owner.press("start")
        await owner.until(lambda: owner.epoch, "a first epoch")
        viewers = [owner]
        for _ in range(count - 1):
            viewers.append(await stack.enter_async_context(Viewer(owner.link)))
        await asyncio.gather(
            *(viewer.until(lambda viewer=viewer: viewer.epoch, "an epoch seen by each") for viewer in viewers)
        )
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
    """The figures for one and for ten viewers, from twice as many rounds: a phase is short, and they differ by little."""
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder)) as server:
        return [asyncio.run(measure(server, count, 2 * rounds)) for count in VIEWERS]
