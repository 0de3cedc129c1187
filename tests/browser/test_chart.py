"""Live charts keep their nodes: no flicker, no lost zoom, no growing page."""

from __future__ import annotations

import os
import time
from pathlib import Path

import plotly
from playwright.sync_api import Browser, Page, Route

from kd.figures import training
from kd.ui import frontend
from kd.ui.charts.chart import packed
from tests.serving import Server, chart, points, ranges, start, until, visit, zoom

TICKS = 100
SECONDS = float(os.environ.get("KD_FLAT_SECONDS", "20"))


def test_node_zoom_and_hidden_traces_survive_a_hundred_updates(page: Page, server: Server) -> None:
    visit(page, server.link(**server.endless()))
    start(page)
    until(page, lambda: len(points(page)) >= 3, "three points")
    node = chart(page, "accuracy")
    zoomed = zoom(page, "accuracy")
    # The plots' own data change at each tick; a property of the node is only there while the node is.
    page.evaluate("""() => document.querySelectorAll('.kd-chart').forEach(div => {
        div.marked = true; div.ticks = 0; div.on('plotly_afterplot', () => div.ticks++)
    })""")
    chart(page, "loss").locator(".legendtoggle").first.click()
    hidden = "div => div._fullData.filter(trace => trace.visible == 'legendonly').map(trace => trace.name)"
    gone = until(page, lambda: chart(page, "loss").evaluate(hidden), "a hidden trace")

    begin, counts = time.monotonic(), []

    def enough() -> bool:
        counts.append(page.evaluate("document.querySelectorAll('*').length"))
        return node.evaluate("div => div.ticks") >= TICKS and time.monotonic() - begin >= SECONDS

    until(page, enough, f"{TICKS} ticks", SECONDS + 120)
    took = time.monotonic() - begin
    print(f"nodes of the page over {took:.0f} s: {counts[0]} to {counts[-1]}, at most {max(counts)}")
    assert node.evaluate("div => div.marked") and chart(page, "loss").evaluate("div => div.marked")
    assert ranges(page, "accuracy") == zoomed
    assert chart(page, "loss").evaluate(hidden) == gone
    assert counts[-1] <= counts[0] + 60, (
        f"the page grew from {counts[0]} to {counts[-1]} nodes in {took:.0f} s"
    )


def test_zoom_between_two_updates_survives_the_next(browser: Browser) -> None:
    """Return a page with the component alone, so that the test decides when a figure arrives."""
    page = browser.new_page()
    page.route("http://chart.test/**", _serve)
    page.goto("http://chart.test/")
    rows = [
        {"step": step, "epoch": step / 10, "validation student": 0.9, "whole_validation": 0.0}
        for step in range(1, 40)
    ]
    page.evaluate(
        """async (figures) => {
            const component = (await import("/chart.js")).default
            window.tick = () => component({
                data: new TextEncoder().encode(figures.shift()),
                parentElement: document.body,
            })
            tick()
        }""",
        [
            packed({"chart_accuracy": (training.accuracy(rows[:count], 4), "")}).decode()
            for count in range(3, 30)
        ],
    )
    drawn = "document.querySelector('.kd-chart')._fullData?.[0].x.length == {}"
    page.wait_for_function(drawn.format(3))
    zoomed = zoom(page, "accuracy")
    page.wait_for_timeout(200)  # what was last drawn is drawn again when the hand lets go
    page.evaluate("tick()")
    page.wait_for_function(drawn.format(4))
    assert ranges(page, "accuracy") == zoomed
    page.context.close()


def _serve(route: Route) -> None:
    if route.request.url.endswith("/chart.js"):
        route.fulfill(body=frontend.script("chart.js"), content_type="text/javascript")
    elif "plotly.min.js" in route.request.url:
        route.fulfill(
            path=Path(plotly.__file__).parent / "package_data" / "plotly.min.js",
            content_type="text/javascript",
        )
    else:
        route.fulfill(body=frontend.read("chart.html"), content_type="text/html")
