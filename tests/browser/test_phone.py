"""A phone: narrow, dark, and used with a finger."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page, expect

from kd.lab.settings import PANELS
from tests.serving import Server, answers, button, points, says, start, until, visit
from tests.strokes import DIGITS, Stroke

PHONE = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
    "color_scheme": "dark",
}


def touch(page: Page, strokes: list[Stroke]) -> None:
    """Draw with a finger. Playwright itself can only tap."""
    paper = page.locator("canvas.upper-canvas")
    paper.scroll_into_view_if_needed()
    box = paper.bounding_box()
    finger = page.context.new_cdp_session(page)
    for stroke in strokes:
        kind = "touchStart"
        for x, y in stroke:
            spot = {"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]}
            finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [spot]})
            kind = "touchMove"
        finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def overflow(page: Page) -> list[str]:
    """Return the elements that are wider than the screen."""
    return page.evaluate("""() => [document.documentElement, document.querySelector('[data-testid=stMain]')]
        .filter(e => e.scrollWidth > e.clientWidth + 1)
        .map(e => `${e.tagName}: ${e.scrollWidth} > ${e.clientWidth}`)""")


def test_no_page_scrolls_sideways(visitor: Callable[..., Page], server: Server, student: str) -> None:
    page = visitor(**PHONE)
    for name in ("", "draw", "runs", "compare", "compress", "sweep"):
        visit(page, server.link(name, run=student))
        if name in ("", "runs"):
            until(page, lambda: points(page), "the stored run's chart")
        assert not overflow(page)
    for panel in PANELS:
        visit(page, server.link("dark_knowledge", panel=panel, run=student))
        assert not overflow(page)


def test_layers_of_both_networks_are_readable(visitor: Callable[..., Page], server: Server) -> None:
    page = visitor(**PHONE)
    visit(page, server.link(student="cnn-separable"))
    ink = page.get_by_test_id("stApp").evaluate("app => getComputedStyle(app).color")
    for name in ("cnn", "cnn-separable"):
        picture = page.get_by_role("img", name=f"The layers of {name}: image")
        picture.scroll_into_view_if_needed()
        expect(picture.get_by_text("dense", exact=True)).to_be_visible()
        box = picture.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390
        # Letters of 11 px or more, in the theme's ink.
        assert 11.5 * box["width"] / picture.evaluate("svg => svg.viewBox.baseVal.width") >= 11
        assert picture.evaluate("svg => getComputedStyle(svg).color") == ink


def test_finger_drawing_is_answered_during_training(visitor: Callable[..., Page], server: Server) -> None:
    page = visitor(**PHONE)
    visit(page, server.link(**server.endless()))
    background = page.get_by_test_id("stApp").evaluate("app => getComputedStyle(app).backgroundColor")
    assert sum(map(int, background[4:-1].split(",")[:3])) < 150, "not dark"
    touch(page, DIGITS[3])
    says(page, 3)
    start(page)
    until(page, lambda: "student" in answers(page) and points(page), "the student's answer")
    assert not overflow(page)
    expect(button(page, "Pause")).to_be_visible()
