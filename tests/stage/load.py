"""A full room: many viewers of one run, some of them drawing, on the machine that trains it.

    python -m tests.stage load [--viewers 50] [--browsers 2] [--drawing 10] [--rounds 3] [--seconds 10]

Most viewers are websocket clients, some are real browsers; all share the cores with the
server. Rounds alternate between everyone watching, some of them drawing, and everyone
connected but idle: the training speed while watched is compared with the speed unwatched.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import io
import itertools
import statistics
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from benchmarks.interaction import WATCH
from benchmarks.viewer import Viewer
from benchmarks.watched import mark
from tests.server import Server
from tests.serving import PATIENCE, clear, draw, launch, points, until, visit
from tests.stage.promise import Promise, share, tell
from tests.strokes import DIGITS, render

ANSWER, GAP, SPEED = 1.5, 2.0, 0.7  # what is promised: seconds, seconds, share of the speed unwatched
DEBOUNCE = 0.2  # seconds that a browser's canvas waits for the next stroke; a client without one does not
THINKING = 4.0  # seconds between the drawings of one person
SETTLE = 2.0  # seconds from one phase to the next
PACE = 11.0  # seconds, about, until all viewers have found the pace for as many as they are

# Holds the page's timers, with which Streamlit repeats fragments, and notes each drawing of the loss chart.
_BROWSER = (
    WATCH
    + """
kd.idle = false, kd.drawn = []
const interval = window.setInterval
window.setInterval = (call, ...rest) => interval(() => kd.idle || call(), ...rest)
let plotly
Object.defineProperty(window, "Plotly", {
  configurable: true, get: () => plotly,
  set: (found) => {
    const react = found.react
    found.react = (div, ...rest) => {
      if (div.classList.contains("chart_loss")) kd.drawn.push(performance.now() / 1000)
      return react(div, ...rest)
    }
    plotly = found
  },
})
"""
)


class Browsers(threading.Thread):
    """Real browsers that watch, and draw one after the other; in a thread, since Playwright's calls wait.

    Args:
        link: of the run.
        count: of browsers, each a person with cookies of their own.
    """

    def __init__(self, link: str, count: int):
        super().__init__(name="browsers", daemon=True)
        self._link, self._count = link, count
        self.watching, self.drawing, self.over = True, False, False
        self.ready = threading.Event()
        self.answers: list[float] = []  # seconds
        self.gaps: list[float] = []  # seconds
        self.problems: list[str] = []
        self.dropped: list[str] = []

    def run(self) -> None:
        try:
            with sync_playwright() as playwright, contextlib.ExitStack() as stack:
                pages = [self._open(stack, playwright) for _ in range(self._count)]
                self.ready.set()
                digits = itertools.cycle(digit for digit, strokes in DIGITS.items() if len(strokes) == 1)
                while not self.over:
                    for page in pages:
                        page.evaluate(f"kd.idle = {'false' if self.watching else 'true'}")
                        if self.watching and self.drawing:
                            self._draw(page, next(digits))
                        page.wait_for_timeout(1000 * (THINKING if self.drawing else 0.5) / len(pages))
        except BaseException as error:
            self.problems.append(f"{type(error).__name__}: {error}")
        finally:
            self.ready.set()

    def _open(self, stack: contextlib.ExitStack, playwright) -> Page:
        page = stack.enter_context(launch(playwright)).new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(PATIENCE * 1000)
        page.add_init_script(_BROWSER)
        page.on("console", lambda message: message.type == "error" and self.problems.append(message.text))
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on(
            "websocket",
            lambda socket: socket.on("close", lambda _: self.over or self.dropped.append("a browser's")),
        )
        visit(page, self._link)
        until(page, lambda: points(page), "a chart")
        return page

    def _draw(self, page: Page, digit: int) -> None:
        page.evaluate("kd.answer = null, kd.drawn.length = 0")
        draw(page, DIGITS[digit])
        self.answers.append(until(page, lambda: page.evaluate("kd.answer"), "an answer") / 1000)
        page.wait_for_timeout(2000)  # to see it, and the chart go on
        self.gaps += [after - before for before, after in itertools.pairwise(page.evaluate("kd.drawn"))]
        clear(page)


@contextlib.contextmanager
def browsers(link: str, count: int) -> Iterator[Browsers]:
    found = Browsers(link, count)
    if count:
        found.start()
    try:
        yield found
    finally:
        found.over = True
        if count:
            found.join(60)


def pictures() -> dict[int, str]:
    """Return each digit as the canvas sends it."""
    found = {}
    for digit, strokes in DIGITS.items():
        content = io.BytesIO()
        Image.fromarray(render(strokes)).save(content, "PNG")
        found[digit] = f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
    return found


async def measure(
    server: Server, viewers: int, real: int, drawing: int, rounds: int, seconds: float
) -> list[Promise]:
    """Return the promises with ``viewers`` people, ``real`` of them browsers, ``drawing`` of them drawing."""
    drawn, answers, gaps, idle, watched = pictures(), [], [], [], []
    run = {"student": "mlp-128", "epochs": 200, "batch_size": 128 if server.full else 8}
    polling = asyncio.Event()

    async def person(viewer: Viewer, place: int) -> None:
        """Draw one digit after the other while everyone watches."""
        await asyncio.sleep(THINKING * place / max(1, drawing - real))
        for digit in itertools.cycle(DIGITS):
            await polling.wait()
            answers.append(DEBOUNCE + await viewer.draw(digit, DIGITS[digit], drawn[digit]))
            await asyncio.sleep(THINKING)

    async def phase(poll: bool) -> float:
        """Return the epochs per second of a phase in which everyone watches, or nobody does."""
        for viewer in people:
            viewer.polling = poll
        room.watching = poll
        (polling.set if poll else polling.clear)()
        await asyncio.sleep(SETTLE)
        begin, first = await mark(owner)
        await asyncio.sleep(seconds)
        end, last = await mark(owner)
        if poll:
            for guest in people[1:]:
                gaps.extend(
                    after - before
                    for before, after in itertools.pairwise(
                        moment for moment in guest.seen if begin <= moment <= end
                    )
                )
        return (last - first) / (end - begin)

    async with contextlib.AsyncExitStack() as stack:
        owner = await stack.enter_async_context(Viewer(server.link(**run)))
        await owner.press("start")
        await owner.until(lambda: owner.epoch, "a first epoch")
        room = stack.enter_context(browsers(owner.link, real))
        if real:
            await asyncio.to_thread(room.ready.wait)
        people = [owner]
        for _ in range(viewers - real - 1):
            people.append(await stack.enter_async_context(Viewer(owner.link)))
        await asyncio.gather(
            *(viewer.until(lambda viewer=viewer: viewer.epoch, "an epoch seen by each") for viewer in people)
        )
        drawers = [
            asyncio.create_task(person(viewer, place))
            for place, viewer in enumerate(people[1 : 1 + drawing - real])
        ]
        polling.set()
        room.drawing = drawing > 0
        await asyncio.sleep(PACE)
        for turn in range(rounds):
            for poll in (False, True) if turn % 2 else (True, False):
                (watched if poll else idle).append(await phase(poll))
            if owner.epoch > 0.7 * run["epochs"]:
                break
        for task in drawers:
            task.cancel()
        failed = [
            str(found)
            for found in await asyncio.gather(*drawers, return_exceptions=True)
            if not isinstance(found, asyncio.CancelledError)
        ]
        dropped = [f"{viewer.link}" for viewer in people if not viewer.connected] + room.dropped
        room.over = True
        owner.polling = True
        await owner.press("stop")
        await owner.until(lambda: owner.interval is None, "rest after the run's end")
    errors = [
        *failed,
        *room.problems,
        *(sentence for viewer in people for sentence in viewer.told),
        *filter(None, [server.complaints()]),
    ]
    ratios = [one / other for one, other in zip(watched, idle)]
    each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    print(
        f"{viewers} viewers, {real} of them browsers, {drawing} drawing: "
        f"{len(answers)} + {len(room.answers)} drawings, {len(gaps)} + {len(room.gaps)} updates, "
        f"{len(ratios)} rounds; median answer {statistics.median([*answers, *room.answers] or [0]):.2f} s; "
        f"browsers: answer {share(room.answers, 95):.2f} s, update gap {share(room.gaps, 95):.2f} s (p95); "
        f"epochs/s {statistics.median(watched):.2f} watched, {statistics.median(idle):.2f} unwatched; "
        f"ratios {each}",
        flush=True,
    )
    return [
        Promise.below("stroke to answer, p95", share([*answers, *room.answers], 95), ANSWER, " s"),
        Promise.below("update to update for spectators, p95", share([*gaps, *room.gaps], 95), GAP, " s"),
        Promise.least("training speed, relative to unwatched", statistics.median(ratios), SPEED),
        Promise.none("errors: misread drawings, alerts, consoles, the server's log", errors),
        Promise.none("lost connections", dropped),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.stage load", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--viewers", type=int, default=50)
    parser.add_argument("--browsers", type=int, default=2)
    parser.add_argument("--drawing", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each half of a round")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder)) as server:
        return tell(
            asyncio.run(
                measure(server, given.viewers, given.browsers, given.drawing, given.rounds, given.seconds)
            )
        )


if __name__ == "__main__":
    sys.exit(main())
