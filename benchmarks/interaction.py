"""Measure how quickly the app responds, inside a real browser.

    python benchmarks/interaction.py [--json] [--nodes-seconds 120]

Times are taken by the page itself, from the event (a click, the pen leaving the
paper) to the change on the page, so that the remote control of the browser does not
count. Needs the packages of requirements-dev.txt and Chromium or Chrome.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.serving import (
    PATIENCE,
    Server,
    chart,
    clear,
    draw,
    launch,
    points,
    ranges,
    reset,
    start,
    until,
    visit,
    zoom,
)
from tests.strokes import DIGITS

LOADS, STARTS, STROKES = 5, 5, 20

# Runs in each page before the page's own scripts. Streamlit's buttons are in the document;
# the canvas is in a shadow root, whose pointer events reach the window too.
WATCH = """
const when = (check, done) => {
  const look = () => check() ? done(performance.now()) : requestAnimationFrame(look)
  look()
}
const named = name => [...document.querySelectorAll('button')].find(b => b.innerText.trim().endsWith(name))
const mainText = () => document.querySelector('[data-testid=stMain]')?.innerText || ''
const answered = () => /teacher\\s+\\d\\s+[\\d.]+%/.test(mainText())
const idle = () => document.querySelector('[data-testid=stApp]')?.dataset.testScriptState == 'notRunning'
window.kd = { usable: null, firstPoint: null, answer: null }
when(() => named('Start') && !named('Start').disabled && idle(), now => { kd.usable = now })
window.addEventListener('click', event => {
  if (!event.target.closest?.('button')?.innerText.trim().endsWith('Start')) return
  const begin = event.timeStamp
  kd.firstPoint = null
  // The teacher's level line starts at epoch 0, a record later.
  const traces = () => document.querySelector('.kd-chart.chart_accuracy')?.calcdata || []
  when(() => traces().some(trace => trace[0].x > 0),
       now => { kd.firstPoint = now - begin })
}, true)
window.addEventListener('pointerup', event => {
  if (answered()) return  // a new answer can only be recognized if there was none before
  const begin = event.timeStamp
  kd.answer = null
  const observer = new MutationObserver(() => {
    if (!answered()) return
    kd.answer = performance.now() - begin
    observer.disconnect()
  })
  observer.observe(document.body, { childList: true, subtree: true, characterData: true })
}, true)
"""


def person(browser: Browser) -> Page:
    """Return a page with cookies of its own."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(PATIENCE * 1000)
    page.add_init_script(WATCH)
    return page


def noted(page: Page, what: str) -> float:
    return until(page, lambda: page.evaluate(f"kd.{what}"), what)


def page_loads(browser: Browser, server: Server) -> list[float]:
    """Return the seconds from the request to a usable page, each time in a browser without a cache."""
    found = []
    for _ in range(LOADS):
        page = person(browser)
        page.goto(server.url)
        found.append(noted(page, "usable") / 1000)
        page.context.close()
    return found


def first_points(browser: Browser, server: Server) -> list[float]:
    """Return the seconds from the click on Start to the first point in the chart.

    Each time in a browser without a cache, after the page has loaded completely.
    """
    found = []
    for _ in range(STARTS):
        page = person(browser)
        visit(page, server.url)
        page.wait_for_function("window.Plotly")
        start(page)
        found.append(noted(page, "firstPoint") / 1000)
        reset(page)
        page.context.close()
    return found


def answer_times(page: Page, server: Server) -> list[float]:
    """Return the milliseconds from the end of a stroke to the answer, while a student trains."""
    visit(page, server.link(**server.endless()))
    start(page)
    until(page, lambda: points(page), "a point")
    found = []
    single = [strokes for strokes in DIGITS.values() if len(strokes) == 1]
    for i in range(STROKES):
        draw(page, single[i % len(single)])
        found.append(noted(page, "answer"))
        clear(page)
        page.evaluate("kd.answer = null")
    reset(page)
    return found


def node_counts(page: Page, server: Server, seconds: float) -> dict[str, Any]:
    """Measure the size of the page while a student trains, and whether the chart keeps its node and zoom."""
    visit(page, server.link(**server.endless()))
    start(page)
    until(page, lambda: len(points(page)) >= 3, "three points")
    node = chart(page, "accuracy")
    node.evaluate("div => { div.marked = true }")
    zoomed = zoom(page, "accuracy")
    end, counts, ticks = time.monotonic() + seconds, [], len(points(page))
    while time.monotonic() < end:
        counts.append(page.evaluate("document.querySelectorAll('*').length"))
        page.wait_for_timeout(1000)
    result = {
        "seconds": seconds,
        "first": counts[0],
        "last": counts[-1],
        "most": max(counts),
        "points": len(points(page)) - ticks,
        "same_node": node.evaluate("div => div.marked === true"),
        "zoom_kept": ranges(page, "accuracy") == zoomed,
    }
    reset(page)
    return result


def spread(values: list[float], digits: int) -> dict[str, Any]:
    low, _, high = statistics.quantiles(values, n=4)
    return {
        "median": round(statistics.median(values), digits),
        "iqr": round(high - low, digits),
        "each": [round(value, digits) for value in values],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--nodes-seconds",
        type=float,
        default=120.0,
        metavar="S",
        help="how long the page's nodes are counted (default 120)",
    )
    given = parser.parse_args()
    expect.set_options(timeout=PATIENCE * 1000)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        with launch(playwright) as browser, Server(Path(folder)) as server:
            page = person(browser)
            result = {
                "cores": os.cpu_count(),
                "browser": browser.version,
                "data": "full" if server.full else "sample",
                "load_to_usable_seconds": spread(page_loads(browser, server), 2),
                "start_to_first_point_seconds": spread(first_points(browser, server), 3),
                "stroke_to_answer_milliseconds": spread(answer_times(page, server), 0),
                "nodes": node_counts(page, server, given.nodes_seconds),
            }
    if given.json:
        print(json.dumps(result))
        return
    nodes = result["nodes"]
    print(f"{result['cores']} cores, Chromium {result['browser']}, MNIST: {result['data']}")
    for name, what in [
        ("load_to_usable_seconds", "page load to usable, s"),
        ("start_to_first_point_seconds", "Start to first chart point, s"),
        ("stroke_to_answer_milliseconds", "mouse-up to new answer while training, ms"),
    ]:
        values = result[name]
        each = " ".join(f"{value:g}" for value in values["each"])
        print(f"{what:45} median {values['median']:g}, IQR {values['iqr']:g}, each {each}")
    print(
        f"{'DOM nodes while training':45} {nodes['first']} to {nodes['last']}, at most {nodes['most']}, "
        f"in {nodes['seconds']:g} s"
    )
    kept = ("yes" if nodes[name] else "no" for name in ("same_node", "zoom_kept"))
    print(f"{'chart node kept, zoom kept':45} {', '.join(kept)}")


if __name__ == "__main__":
    main()
