"""The Dark knowledge page in a browser: an omitted digit, its link and its picture."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.serving import Server, answers, button, draw, start, until, visit
from tests.strokes import DIGITS


def test_omitted_digit_is_followed_live_and_linked(page: Page, server: Server) -> None:
    visit(page, server.link("dark_knowledge", panel="never-saw", offset_by="frequency"))
    start(page)
    recall = page.locator(".kd-chart.lab_recall")
    bars = (
        "div => div._fullLayout ? div.data.filter(trace => trace.type == 'bar').map(trace => trace.y[3]) : []"
    )
    until(page, lambda: recall.count() and len(recall.evaluate(bars)) == 2, "a bar for student and control")
    draw(page, DIGITS[3])
    until(
        page,
        lambda: {"teacher", "student", "control"} <= answers(page).keys(),
        "three answers to the drawing",
    )
    expect(page.get_by_text("Errors on the test set")).to_be_visible()
    with page.expect_download() as download:
        button(page, "⤓ Picture").first.click()
    assert download.value.suggested_filename == "never-saw.png"

    link = page.url
    assert "offset_by=frequency" in link and "run=" in link
    expected = recall.evaluate(bars)
    page.goto("about:blank")
    visit(page, link)
    until(page, lambda: recall.count() and recall.evaluate(bars) == expected, "the same bars from the link")
