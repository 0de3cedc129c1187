"""Minutes of use in a real browser: start, draw, pause, change page, reload, close. Nothing may leak.

    python -m tests.stage soak [--minutes 30]

Each round starts a run, draws while it trains, pauses and resumes, looks at the other pages, reloads,
and stops; every third round uses a new tab and closes the old one. At the same point of each round
the browser and the server are measured, after a garbage collection. A figure is flat if its trend over
all rounds but the first stays below a share of the figure itself. Open files are counted when nobody
has been there for a while, early and at the end: Streamlit keeps a session for two minutes after its
visitor left, and until the next one leaves, so faster rounds have more of them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from playwright.sync_api import BrowserContext, Page, expect, sync_playwright
from playwright.sync_api import Error as PlaywrightError

from tests.browser.conftest import PROBE
from tests.server import COMPLAINT
from tests.serving import (
    PATIENCE,
    Server,
    answers,
    button,
    clear,
    draw,
    go_to,
    launch,
    points,
    reset,
    start,
    until,
    visit,
)
from tests.stage.promise import Promise, tell
from tests.strokes import DIGITS

MOST_CUT_SHORT = 5  # rounds, before it gives up
WARM = 2  # rounds in which caches fill and modules are imported
REST = (
    130.0  # seconds without visitors, after which only leaked sessions remain; Streamlit keeps each for 120
)
LEAVE = 2.0  # seconds until the server has seen that somebody left
MORE_FILES = 5  # that may be open at the end: caches, the journal of the last run
#: Figure -> unit, and the largest rise of its trend over the whole time: as a share, and at least this much.
FIGURES = {
    "DOM nodes": ("", 0.10, 60),
    "JavaScript heap": (" MB", 0.15, 5),
    "server memory": (" MB", 0.10, 60),
    "server threads": ("", 0.10, 3),
}


def weigh(page: Page, server: Server) -> dict[str, float]:
    """Return the current figures."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    session.send("Performance.enable")
    metrics = {entry["name"]: entry["value"] for entry in session.send("Performance.getMetrics")["metrics"]}
    session.detach()
    process = Path(f"/proc/{server.process.pid}")
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    return {
        "DOM nodes": page.evaluate("document.querySelectorAll('*').length"),
        "JavaScript heap": metrics["JSHeapUsedSize"] / 1e6,
        "server memory": int(status["VmRSS"].split()[0]) * 1024 / 1e6,
        "server threads": int(status["Threads"]),
    }


def files_at_rest(server: Server, context: BrowserContext, seconds: float) -> int:
    """Return the server's number of open files and connections after ``seconds`` without visitors.

    Streamlit drops expired sessions when somebody leaves, so one visitor comes, leaves and comes again.
    """
    time.sleep(seconds)
    for _ in range(2):
        page = context.new_page()
        visit(page, server.url)
        files = sum(entry.is_symlink() for entry in Path(f"/proc/{server.process.pid}/fd").iterdir())
        page.close()
        time.sleep(LEAVE)
    return files


def seen(page: Page) -> str:
    """Return the page's text and buttons."""
    buttons = [
        f"{found.inner_text().strip()}{'' if found.is_enabled() else ' (not enabled)'}"
        for found in page.get_by_test_id("stMain").get_by_role("button").all()[:8]
    ]
    text = " ".join(page.get_by_test_id("stMain").inner_text().split())[:600]
    return f"The page said: {text} Its buttons: {', '.join(buttons)}."


def trend(values: list[float]) -> float:
    """Return how much a straight line fitted to the values rises from the first to the last."""
    return float(np.polyfit(np.linspace(0, 1, len(values)), values, 1)[0]) if len(values) > 1 else 0.0


def one_round(page: Page, server: Server, number: int) -> None:
    visit(page, server.link(temperature=2 + number % 8, **server.endless()))
    start(page)
    until(page, lambda: points(page), "a point")
    strokes = [digit for digit, strokes in DIGITS.items() if len(strokes) == 1]
    for digit in strokes[number % 3 :: 3]:
        draw(page, DIGITS[digit])
        until(page, lambda: answers(page), "an answer")
        clear(page)
    button(page, "Pause").click()
    expect(button(page, "Resume")).to_be_visible()
    button(page, "Step").click()
    button(page, "Resume").click()
    go_to(page, "Draw")
    go_to(page, "Runs")
    go_to(page, "Distil")
    page.reload()
    before = until(page, lambda: points(page), "the run again after a reload")
    until(page, lambda: len(points(page)) > len(before), "its next point")
    button(page, "Stop").click()
    expect(button(page, "Start")).to_be_enabled()
    reset(page)


def soak(
    server: Server,
    minutes: float,
    rest: float = REST,
    say: Callable[[str], None] = lambda line: print(line, flush=True),
) -> list[Promise]:
    """Use the app for ``minutes``, at least for WARM + 2 rounds.

    Args:
        rest: seconds without visitors before open files are counted; 0 counts none.
    """
    complaints: list[str] = []
    counted: list[dict[str, float]] = []
    files: list[int] = []
    cut_short: list[str] = []

    def person(context: BrowserContext) -> Page:
        page = context.new_page()
        page.on(
            "console",
            lambda message: (
                message.type == "error"
                and not PROBE.search(f"{message.text} ({message.location['url']})")
                and complaints.append(message.text)
            ),
        )
        page.on("pageerror", lambda error: complaints.append(error.stack or str(error)))
        return page

    with sync_playwright() as playwright, launch(playwright) as browser:
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        context.set_default_timeout(PATIENCE * 1000)
        page, begin = person(context), time.monotonic()
        while time.monotonic() - begin < 60 * minutes or len(counted) < WARM + 2:
            try:
                one_round(page, server, len(counted))
            except (AssertionError, PlaywrightError) as error:
                state = "The page was closed." if page.is_closed() else seen(page)
                cut_short.append(f"round {len(counted) + 1}: {error} {state}")
                say(f"{cut_short[-1]} Continuing with a new tab.")
                page.close()
                page = person(context)
                if len(cut_short) > MOST_CUT_SHORT:
                    break
                continue
            counted.append(weigh(page, server))
            if len(counted) in (WARM + 1, WARM + 2) or len(counted) % 10 == 0:
                say(
                    f"after round {len(counted)}, {(time.monotonic() - begin) / 60:.1f} min: "
                    + ", ".join(f"{counted[-1][name]:.0f}{FIGURES[name][0]} {name}" for name in FIGURES)
                )
            if len(counted) % 3 == 0:
                page.close()
                if rest and not files:
                    rested = time.monotonic()
                    files.append(files_at_rest(server, context, rest))
                    begin += time.monotonic() - rested
                page = person(context)
        took = (time.monotonic() - begin) / 60
        page.close()
        if files:
            files.append(files_at_rest(server, context, rest))
        context.close()
    kept = counted[WARM:]
    promises = (
        []
        if kept
        else [Promise("rounds that can be evaluated", f"{len(counted)}", f"more than {WARM}", False)]
    )
    for name, (unit, share, least) in FIGURES.items() if kept else ():
        values = [round_[name] for round_ in kept]
        rise, limit = trend(values), max(least, share * values[0])
        promises.append(
            Promise(
                f"{name}: {values[0]:.0f} to {values[-1]:.0f}{unit}, trend over {len(values)} rounds",
                f"{rise:+.1f}{unit}",
                f"at most {limit:+.1f}{unit}",
                rise <= limit,
            )
        )
    if rest:  # counted twice, where there were rounds enough
        more = files[-1] - files[0] if files else MORE_FILES + 1
        found = f": {files[0]} to {files[-1]}" if files else ", which were not counted"
        promises.append(
            Promise(
                f"server's open files without visitors{found}",
                f"{more:+d}",
                f"at most {MORE_FILES:+d}",
                more <= MORE_FILES,
            )
        )
    exceptions = [
        found[COMPLAINT.search(found).start() :] for found in [server.complaints()] if found
    ]  # from the first on
    for text in exceptions:
        say(text[:4000])
    say(f"{len(counted)} rounds in {took:.1f} min")
    return [
        *promises,
        Promise.none("rounds cut short by an unexpected page", cut_short),
        Promise.none("console errors", complaints),
        Promise.none("exceptions in the server's log", exceptions),
        Promise.alive(server.process),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.stage soak", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    given = parser.parse_args()
    expect.set_options(timeout=PATIENCE * 1000)
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder)) as server:
        return tell(soak(server, given.minutes))


if __name__ == "__main__":
    sys.exit(main())
