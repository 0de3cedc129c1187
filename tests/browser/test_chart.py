"""The live charts stay the same nodes: no flicker, no lost zoom, no growing page."""

from __future__ import annotations

import os
import time

from playwright.sync_api import Page

from tests.serving import Server, chart, points, ranges, start, until, visit, zoom

TICKS = 100
SECONDS = float(os.environ.get("KD_FLAT_SECONDS", "20"))


def test_node_zoom_and_hidden_traces_outlive_a_hundred_ticks_and_the_page_stays_small(page: Page, server: Server) -> None:
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
    assert counts[-1] <= counts[0] + 60, f"the page grew from {counts[0]} to {counts[-1]} nodes in {took:.0f} s"
