"""On a stage: keys instead of the mouse, one screen, a QR code, and a replay as the last resort."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import segno
from playwright.sync_api import Page, expect

from tests.serving import Server, answers, button, chart, draw, idle, points, run_id, says, until, visit
from tests.strokes import line

#: The top, left, bottom and right end of what is drawn on a canvas; null if it is empty.
INK = """canvas => {
    const { data, width } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height)
    const lit = [...data.keys()].filter(i => i % 4 === 0 && data[i] > 128).map(i => i / 4)
    const ends = values => [Math.min(...values), Math.max(...values)]
    const [top, bottom] = ends(lit.map(i => Math.floor(i / width)))
    const [left, right] = ends(lit.map(i => i % width))
    return lit.length ? [top, left, bottom, right] : null
}"""
#: Types keys without a pause, as a browser reports them: no keypress where keydown was prevented.
TYPE = """() => keys => {
    for (const key of keys) for (const type of ["keydown", "keypress", "keyup"]) {
        const code = key.toUpperCase().charCodeAt(0), which = type === "keypress" ? key.charCodeAt(0) : code
        const options = { key, which, keyCode: which, charCode: which, bubbles: true, cancelable: true }
        if (!document.body.dispatchEvent(new KeyboardEvent(type, options)) && type === "keydown") break
    }
}"""


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

    page.locator("dialog[data-ready]").wait_for(state="attached")
    page.keyboard.press("q")
    code = page.get_by_role("img", name=re.compile("QR code"))
    expect(code).to_be_visible()
    link = f"{server.url}/?run={run}"
    expect(page.get_by_role("dialog").locator("code")).to_have_text(link)
    assert code.get_attribute("src") == segno.make(link, error="m").svg_data_uri(
        border=3, light="white", scale=8
    )
    expect(page.get_by_role("dialog")).to_contain_text("Phones can't open 127.0.0.1")
    page.keyboard.press("Escape")
    expect(code).to_be_hidden()

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
    visit(page, server.link(run=run))
    expect(button(page, "Stop")).to_be_enabled()  # the run of this talk is ended with the test


@pytest.mark.parametrize("width, height", [(1280, 720), (2560, 1440)])
def test_stroke_ends_lie_where_they_were_drawn(
    visitor: Callable[..., Page], server: Server, width: int, height: int
) -> None:
    page = visitor(viewport={"width": width, "height": height})
    visit(page, server.link(present=1))
    page.wait_for_timeout(1000)
    draw(page, [line((0.1, 0.1), (0.6, 0.7))])
    canvas = page.locator("canvas.dc-canvas.lower-canvas")
    assert canvas.evaluate("node => node.getBoundingClientRect().width") == pytest.approx(
        {1280: 210, 2560: 406}[width], abs=1
    )
    top, left, bottom, right = until(page, lambda: canvas.evaluate(INK), "ink", 20)
    size, pen = 280, 10
    assert (left, top) == pytest.approx((0.1 * size - pen, 0.1 * size - pen), abs=3)
    assert (right, bottom) == pytest.approx((0.6 * size + pen, 0.7 * size + pen), abs=3)


def test_code_takes_all_keys_and_closes_however_fast(visitor: Callable[..., Page], server: Server) -> None:
    page = visitor()
    visit(page, server.link(present=1, **server.endless()))
    page.locator("dialog[data-ready]").wait_for(state="attached")
    code = page.get_by_role("dialog")
    keyboard = page.evaluate_handle(TYPE)
    for keys, shown in (("qq", False), ("qsdtq", False), ("qsn", True)):
        page.evaluate("([type, keys]) => type(keys)", [keyboard, keys])
        expect(code).to_be_visible(visible=shown)
    page.keyboard.type("sxptdln")
    page.keyboard.press("Escape")
    page.wait_for_timeout(500)
    idle(page)
    expect(code).to_be_hidden()
    expect(page.get_by_role("button", name="Start")).to_be_enabled()
    expect(page.get_by_text("Test picture")).to_have_count(0)
    assert run_id(page) is None


def test_keys_do_nothing_while_typing(visitor: Callable[..., Page], server: Server, student: str) -> None:
    page = visitor()
    visit(page, server.link("runs", present=1))
    page.get_by_role("combobox").first.focus()
    page.keyboard.type("nlf")
    page.wait_for_timeout(500)
    page.keyboard.press("Escape")  # an open list hides the page from screen readers
    expect(page.get_by_role("heading", level=1)).to_have_text("Runs")
