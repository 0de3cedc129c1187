"""Measure how soon each panel of the dark-knowledge lab shows its first picture, in a real browser.

    python benchmarks/panels.py [--json]

Of a panel that shows something at once, from the request of its address; of one that
trains, also from the click on Start, on a page that has been opened. Each time in a browser without a
cache. A picture is a chart with something drawn in it, or an image. The server is
warm, as it is for all but its first visitor. Needs the packages of
requirements-dev.txt and Chromium or Chrome.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from playwright.sync_api import Browser, expect, sync_playwright

from kd.lab.settings import PANELS
from tests.serving import PATIENCE, Server, button, launch, until, visit

ROUNDS = 3
AT_ONCE = ("soft-targets",)  # panels that train nothing

WATCH = """
// An empty trace has a point without coordinates.
const filled = div => (div.calcdata || []).some(trace => trace[0]?.x !== undefined || trace[0]?.z)
const drawn = () => [...document.querySelectorAll('.kd-chart')].some(filled)
  || [...document.querySelectorAll('[data-testid=stMain] img')].some(image => image.naturalWidth > 20)
window.kd = { picture: null, clicked: null }
const look = begin => {
  if (drawn()) kd.picture = performance.now() - begin
  else requestAnimationFrame(() => look(begin))
}
look(0)
window.addEventListener('click', event => {
  if (!event.target.closest?.('button')?.innerText.trim().endsWith('Start')) return
  const begin = event.timeStamp, before = new Set(document.querySelectorAll('.kd-chart'))
  const fresh = () => [...document.querySelectorAll('.kd-chart')].some(div => !before.has(div) && filled(div))
  const wait = () => fresh() ? kd.clicked = performance.now() - begin : requestAnimationFrame(wait)
  wait()
}, true)
"""


def measure(browser: Browser, server: Server, panel: str) -> dict[str, float]:
    """Return the seconds to the first picture after the request, or after Start."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(PATIENCE * 1000)
    page.add_init_script(WATCH)
    try:
        visit(page, server.link("dark_knowledge", panel=panel))
        if panel in AT_ONCE:
            return {"opened": until(page, lambda: page.evaluate("kd.picture"), "a picture") / 1000}
        page.wait_for_function("window.Plotly")
        button(page, "Start").click()
        found = {"started": until(page, lambda: page.evaluate("kd.clicked"), f"a picture of {panel}") / 1000}
        stop = button(page, "Stop")
        if stop.is_enabled():
            stop.click()
            expect(stop).to_be_disabled()
        return found
    finally:
        page.context.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    expect.set_options(timeout=PATIENCE * 1000)
    found: dict[str, list[dict[str, float]]] = {panel: [] for panel in PANELS}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        with launch(playwright) as browser, Server(Path(folder)) as server:
            for panel in PANELS:  # the server's first visitor
                measure(browser, server, panel)
            for _ in range(ROUNDS):
                for panel, times in found.items():
                    times.append(measure(browser, server, panel))
            data = "full" if server.full else "sample"
    result: dict[str, Any] = {
        panel: {
            what: {
                "median": round(statistics.median(t[what] for t in times), 2),
                "each": [round(t[what], 2) for t in times],
            }
            for what in times[0]
        }
        for panel, times in found.items()
    }
    if given.json:
        print(json.dumps({"data": data, "panels": result}))
        return
    print(f"MNIST: {data}; seconds to the first picture, median of {ROUNDS}")
    for panel, of in result.items():
        for what, values in of.items():
            each = " ".join(f"{value:g}" for value in values["each"])
            print(f"{panel:16} {what:8} {values['median']:6.2f}   each {each}")


if __name__ == "__main__":
    main()
