"""A hundred visitors press Start within a minute, each in their own session.

    python -m tests.stage starts [--owners 100] [--seconds 60]

One run trains, a bounded number waits, and everyone gets a place in the queue or a refusal. Then
each tries to see and to stop the runs of the others.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from benchmarks.viewer import Viewer
from kd.jobs.queue import MAX_WAITING
from tests.server import Server
from tests.stage.promise import Promise, share, tell

ACCEPTED = 1 + MAX_WAITING  # one trains
_NO = re.compile(rf"{MAX_WAITING} runs are already waiting; try again when one has ended\.")


def _run(viewer: Viewer) -> str | None:
    return parse_qs(urlsplit(viewer.link).query).get("run", [None])[0]


async def measure(server: Server, owners: int, seconds: float) -> list[Promise]:
    told: list[float] = []  # seconds until each was told something
    people: list[Viewer] = []
    silent: list[str] = []

    async def person(place: int, room: contextlib.AsyncExitStack) -> None:
        await asyncio.sleep(seconds * place / owners)
        viewer = await room.enter_async_context(Viewer(server.link(**server.endless())))
        people.append(viewer)
        await viewer.until(lambda: "start" in viewer.buttons, "a Start button")
        begin = time.monotonic()
        await viewer.press("start")
        try:
            await viewer.until(
                lambda: viewer.told or (_run(viewer) and (viewer.waiting or viewer.epoch)), "a place or a no"
            )
            told.append(time.monotonic() - begin)
        except (TimeoutError, ConnectionError) as error:
            silent.append(str(error))
        viewer.polling = (
            place % 10 == 0
        )  # the others look away, so that the hundred pages themselves are no load

    async with contextlib.AsyncExitStack() as room:
        begin = time.monotonic()
        await asyncio.gather(*(person(place, room) for place in range(owners)))
        took = time.monotonic() - begin
        started = {_run(viewer): viewer for viewer in people if _run(viewer)}
        refused = [viewer for viewer in people if not _run(viewer)]
        unclear = [
            said for viewer in refused for said in viewer.told or ["nothing"] if not _NO.fullmatch(said)
        ]
        seen = [
            f"{_run(viewer)} saw {id}"
            for viewer in people
            for id in viewer.mentioned & started.keys() - {_run(viewer)}
        ]
        for viewer in started.values():  # as it is now: who was told at once may have moved up since
            viewer.waiting, before = "", len(viewer.seen)
            await viewer.poll()
            await viewer.until(
                lambda viewer=viewer, before=before: viewer.waiting or len(viewer.seen) > before,
                "its place now",
            )
        places = sorted(
            int(match[1]) if (match := re.search(r"(\d+) before this one", viewer.waiting)) else 0
            for viewer in started.values()
            if viewer.waiting
        )

        # A stranger with the link of each run, whose browser does not keep to disabled buttons.
        stopped = []
        for id in started:
            async with Viewer(server.link(run=id)) as stranger:
                await stranger.press("stop")
                await asyncio.sleep(0.5)
                stopped += [
                    said for said in stranger.told if "Only the person who started this run" not in said
                ]
        for id, viewer in started.items():
            before, seen_before, viewer.polling = viewer.epoch, len(viewer.ticks), True
            try:
                await viewer.until(
                    lambda viewer=viewer, seen_before=seen_before, before=before: (
                        len(viewer.ticks) > seen_before
                        and viewer.interval
                        and viewer.epoch != before
                        or viewer.waiting
                    ),
                    f"{id} going on",
                    60,
                )
            except (TimeoutError, ConnectionError) as error:
                stopped.append(str(error))
            if not viewer.interval:
                stopped.append(f"{id} does not go on")
        for viewer in [*started.values()][::-1]:  # those that wait first, so that none begins meanwhile
            await viewer.press("stop")
            await viewer.until(lambda viewer=viewer: viewer.interval is None, "rest after the run's end")
    print(
        f"{owners} starts in {took:.0f} s: {len(started)} accepted, {len(places)} of them waiting; "
        f"{len(refused)} refused",
        flush=True,
    )
    return [
        Promise(
            "accepted: one trains, the others wait",
            f"{len(started)}",
            f"{min(owners, ACCEPTED)}",
            len(started) == min(owners, ACCEPTED),
        ),
        Promise(
            "places in the queue",
            f"{places}",
            f"each from 0 to {ACCEPTED - 2} before it",
            places == list(range(min(owners, ACCEPTED) - 1)),
        ),
        Promise.none("starts without an answer", silent),
        Promise.none("refusals without the plain sentence", unclear),
        Promise.below("answered after, p95", share(told, 95), 10, " s"),
        Promise.none("another's run seen without its link", seen),
        Promise.none("another's run stopped with its link", stopped),
        Promise.none("complaints in the server's log", [text for text in [server.complaints()] if text]),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.stage starts", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--owners", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=60.0, help="in which all press Start")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder)) as server:
        return tell(asyncio.run(measure(server, given.owners, given.seconds)))


if __name__ == "__main__":
    sys.exit(main())
