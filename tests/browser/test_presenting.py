"""On a stage: keys instead of the mouse, one screen, a QR code, and a replay as the last resort."""

from __future__ import annotations

import re
from collections.abc import Callable

import segno
from playwright.sync_api import Page, expect

from tests.serving import Server, answers, chart, points, run_id, says, until, visit


def test_talk_works_with_keys_alone(visitor: Callable[..., Page], server: Server, student: str) -> None:
    page = visitor(viewport={"width": 1920, "height": 1080})
    visit(page, server.link(present=1, **server.endless()))
    taken = page.get_by_text("Test picture")
    until(
        page, lambda: taken.count() or page.keyboard.press("d") or page.wait_for_timeout(3000), "a test digit"
    )  # a press too early is lost
    page.keyboard.press("s")
    until(page, lambda: points(page), "the first point")
    run = run_id(page)
    until(page, lambda: "student" in answers(page), "the student's answer")
    assert "present=1" in page.url

    # Charts and digit lie between the upper edge and the bar, in letters for the last row.
    bar = page.locator(".st-key-kd_stage_bar").bounding_box()
    for seen in (
        page.get_by_role("heading", level=1),
        page.get_by_role("button", name="Pause"),
        chart(page, "loss"),
        chart(page, "accuracy"),
        chart(page, "answers"),
        page.locator("canvas.upper-canvas"),
    ):
        box = seen.bounding_box()
        assert box["y"] >= 0 and box["y"] + box["height"] <= bar["y"] + 1, (seen, box, bar)
    assert page.evaluate("parseFloat(getComputedStyle(document.documentElement).fontSize)") >= 24
    assert chart(page, "loss").evaluate("div => div._fullLayout.xaxis.tickfont.size") >= 18
    expect(page.get_by_test_id("stTopNavLink")).to_have_count(0)

    page.keyboard.press("p")
    expect(page.get_by_role("button", name="Resume")).to_be_visible()
    before = points(page)[-1]
    page.keyboard.press("t")
    until(page, lambda: points(page)[-1] > before, "one step more")

    page.keyboard.press("q")
    code = page.get_by_role("img", name=re.compile("QR code"))
    expect(code).to_be_visible()
    link = f"{server.url}/?run={run}"
    expect(page.get_by_test_id("stDialog").locator("code").first).to_have_text(link)
    assert code.get_attribute("src") == segno.make(link, error="m").svg_data_uri(
        border=3, light="white", scale=8
    )
    expect(page.get_by_test_id("stDialog")).to_contain_text("Phones can't open 127.0.0.1")
    page.keyboard.press("Escape")
    expect(code).to_have_count(0)

    page.keyboard.press("f")
    until(page, lambda: page.evaluate("!!document.fullscreenElement"), "full screen")
    page.keyboard.press("f")
    page.keyboard.press("n")
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("^Draw"))
    assert "present=1" in page.url

    # The machine fails: a stored run is one key away, and says what it is.
    banner = page.get_by_role("heading", level=1).filter(has_text="Replay of a run recorded on")
    until(
        page, lambda: banner.count() or page.keyboard.press("l") or page.wait_for_timeout(3000), "the replay"
    )  # a press too early is lost
    visit(page, server.link(replay=student, present=1))
    page.get_by_text("20×").click()
    page.keyboard.press("s")
    expect(chart(page, "accuracy")).to_contain_text("(replay)")
    first = len(until(page, lambda: points(page), "the first points of the recording"))
    expect(page.get_by_text("with the weights stored at the end")).to_be_visible()
    bar = page.locator(".st-key-kd_stage_bar").bounding_box()
    for seen in (banner, chart(page, "loss"), chart(page, "accuracy")):
        box = seen.bounding_box()
        assert box["y"] >= 0 and box["y"] + box["height"] <= bar["y"] + 1, (seen, box, bar)
    assert len(points(page)) > first
    until(
        page, lambda: taken.count() or page.keyboard.press("d") or page.wait_for_timeout(3000), "a test digit"
    )
    says(page, int(re.search(r", a (\d)", taken.inner_text())[1]), "student")
    visit(page, server.link(run=run))  # the run of this talk, to be ended


def test_keys_do_nothing_while_typing(visitor: Callable[..., Page], server: Server, student: str) -> None:
    page = visitor()
    visit(page, server.link("runs", present=1))
    page.get_by_role("combobox").first.focus()
    page.keyboard.type("nlf")
    page.wait_for_timeout(500)
    page.keyboard.press("Escape")  # an open list hides the page from screen readers
    expect(page.get_by_role("heading", level=1)).to_have_text("Runs")
