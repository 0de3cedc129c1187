"""A browser for tests and benchmarks, and actions in the app."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Browser, Locator, Page, Playwright, expect

from tests.server import PATIENCE
from tests.server import Server as Server  # handed on

NO_BROWSER = (
    "No Chromium or Chrome was found, so nothing was tried in a browser: install one (on Debian or Ubuntu "
    "`apt install chromium`) or set KD_CHROME to the path of one."
)

# -- the browser ---------------------------------------------------------------


def chromium_path() -> str | None:
    """Return Chromium or Chrome: ``$KD_CHROME``, else the first on PATH, else None."""
    if named := os.environ.get("KD_CHROME"):
        return shutil.which(named)
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    return next(filter(None, map(shutil.which, names)), None)


def launch(playwright: Playwright) -> Browser:
    """Launch a headless browser that makes no network requests of its own."""
    path = chromium_path()
    if path is None:
        raise FileNotFoundError(NO_BROWSER)
    quiet = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    quiet += ["--disable-component-update", "--disable-sync", "--no-proxy-server"]
    return playwright.chromium.launch(executable_path=path, args=quiet)


HEADINGS = {"Distil": re.compile("^Watch|^Train"), "Draw": re.compile("^Draw"), "Runs": "Runs"}

# -- hands and eyes ------------------------------------------------------------


def until(page: Page, check: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """Poll until ``check()`` is true and return its value. The page stays alive meanwhile."""
    end = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        page.wait_for_timeout(40)
    return found


def idle(page: Page, seconds: float = PATIENCE) -> None:
    """Wait until the page's script has finished."""
    page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for(
        timeout=seconds * 1000
    )


def visit(page: Page, link: str) -> None:
    page.goto(link)
    page.get_by_role("heading", level=1).wait_for(timeout=PATIENCE * 1000)
    idle(page)


def go_to(page: Page, name: str) -> None:
    """Go to another page through the navigation."""
    page.get_by_role("link", name=name, exact=True).first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text(HEADINGS[name])
    idle(page)


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


def choose(page: Page, box: str, option: str | re.Pattern[str]) -> None:
    """Choose an option of a select box."""
    page.get_by_role("combobox", name=box, exact=True).click()
    page.get_by_role("option", name=option).click()
    idle(page)


def run_id(page: Page) -> str | None:
    """Return the run in the page's address."""
    return parse_qs(urlsplit(page.url).query).get("run", [None])[0]


def start(page: Page) -> str:
    """Press Start, wait until the run is in the address and return its id."""
    before = run_id(page)
    button(page, "Start").click()
    return until(page, lambda: run_id(page) not in (None, before) and run_id(page), "a run in the address")


def reset(page: Page) -> None:
    button(page, "Reset").click()
    expect(button(page, "Start")).to_be_enabled()
    until(page, lambda: run_id(page) is None, "the run gone from the address")


def finish(page: Page) -> None:
    """Wait until the shown run has ended and its result is visible."""
    expect(page.get_by_role("heading", name=re.compile("^Result"))).to_be_visible(timeout=3 * PATIENCE * 1000)


def chart(page: Page, which: str) -> Locator:
    """Return the node of a live chart: "loss", "accuracy" or "answers"."""
    return page.locator(f".kd-chart.chart_{which}")


def points(page: Page, which: str = "accuracy") -> list[float]:
    """Return the epochs of a chart's points so far; empty without any."""
    find = f"document.querySelector('.kd-chart.chart_{which}')"
    return page.evaluate(f"({find}?._fullLayout && {find}.data || []).find(trace => trace.x[0] > 0)?.x || []")


def steps(page: Page, per_epoch: int) -> list[int]:
    """Return the optimizer steps of a chart's points."""
    return [round(epoch * per_epoch) for epoch in points(page)]


def ranges(page: Page, which: str) -> list[list[float]]:
    """Return the visible ranges of a chart's axes."""
    return chart(page, which).evaluate(
        "div => [div._fullLayout.xaxis.range, div._fullLayout.yaxis.range].map(r => [...r])"
    )


def zoom(page: Page, which: str) -> list[list[float]]:
    """Zoom by dragging over the middle of the plot and return the ranges then shown."""
    node, whole = chart(page, which), ranges(page, which)
    node.scroll_into_view_if_needed()
    box = node.locator(".nsewdrag").bounding_box()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.3 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.8 * box["height"], steps=8)
    page.mouse.up()
    return until(page, lambda: ranges(page, which) != whole and ranges(page, which), "a zoom")


_ANSWER = re.compile(r"(teacher|student|control)\s+(\d)\s+\(?([\d.]+)%")


def answers(page: Page) -> dict[str, tuple[int, float]]:
    """Return each model's answer on the page: name -> (digit, probability); empty without answers."""
    text = page.get_by_test_id("stMain").inner_text()
    return {name: (int(digit), float(percent) / 100) for name, digit, percent in _ANSWER.findall(text)}


def draw(page: Page, strokes: Sequence[Sequence[tuple[float, float]]]) -> None:
    """Draw with the mouse. The canvas sends a stroke to the server 0.2 s after it has ended."""
    paper = page.locator("canvas.upper-canvas")
    paper.scroll_into_view_if_needed()
    box = paper.bounding_box()
    for stroke in strokes:
        first, *rest = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
        page.mouse.move(*first)
        page.mouse.down()
        for spot in rest or [(first[0] + 1, first[1])]:
            page.mouse.move(*spot, steps=2)
        page.mouse.up()


def says(page: Page, digit: int, *names: str, seconds: float = PATIENCE) -> None:
    """Wait until these models, or the teacher, answer ``digit``."""
    names = names or ("teacher",)
    until(
        page,
        lambda: all(answers(page).get(name, (None,))[0] == digit for name in names),
        f"{names} saying {digit}",
        seconds,
    )


def clear(page: Page) -> None:
    """Clear the canvas with its own toolbar."""
    button(page, "Reset canvas & history").click()
    expect(page.get_by_text("Draw a digit").first).to_be_visible()
    until(page, lambda: not answers(page), "no answers to an empty canvas")


def cell(page: Page, text: str) -> Locator:
    """Return table cells with exactly this text, from the table's screen-reader content."""
    return (
        page.get_by_test_id("stDataFrame").locator("td").filter(has_text=re.compile(f"^{re.escape(text)}$"))
    )


def errors(page: Page) -> list[str]:
    """Return the sentences that the page shows as errors."""
    return page.get_by_test_id("stAlertContentError").all_inner_texts()


def select_run(page: Page, name: str) -> None:
    """Choose a run by its name on the Runs page."""
    choose(page, "Run", re.compile("^" + re.escape(name)))
    expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()
    idle(page)
