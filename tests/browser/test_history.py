"""The browser's Back: it leaves the page at once, and address and widgets agree."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Page, expect

from tests.serving import Server, button, idle, until, visit


def slide(page: Page, name: str, parameter: str) -> str:
    """Move a slider by one step, wait until the address says so, and return its value."""
    before = shown(page, name)
    while (value := shown(page, name)) == before:  # a busy page can miss a press
        page.get_by_role("slider", name=name).press("ArrowRight")
    until(page, lambda: asked(page).get(parameter) == [value], f"{parameter}={value} in {page.url}")
    idle(page)
    return value


def shown(page: Page, name: str) -> str:
    """Return the value of a slider."""
    read = "node => node.value ?? node.getAttribute('aria-valuenow')"
    text = until(page, lambda: page.get_by_role("slider", name=name).evaluate(read), name)
    return f"{float(text):g}"


def asked(page: Page) -> dict[str, list[str]]:
    query = parse_qs(urlsplit(page.url).query)
    return {
        name: [f"{float(text):g}" if re.fullmatch(r"[\d.]+", text) else text for text in texts]
        for name, texts in query.items()
    }


def test_back_leaves_at_once_after_moving_sliders(visitor: Callable[..., Page], server: Server) -> None:
    page = visitor()
    page.goto("about:blank")
    entries = page.evaluate("history.length")
    visit(page, server.link(soft_weight=0.5))
    moved = {"temperature": "Temperature", "soft_weight": "Soft weight"}
    expected = {parameter: [slide(page, name, parameter)] for parameter, name in moved.items()}
    expected["temperature"] = [slide(page, "Temperature", "temperature")]
    button(page, "Present").click()
    until(page, lambda: asked(page) == expected | {"present": ["1"]}, "presenter mode in the address")
    assert page.evaluate("history.length") == entries + 1, "settings made entries"
    page.locator(".st-key-stage_next button").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("^Draw"))
    until(page, lambda: asked(page) == {"present": ["1"]}, "presenter mode alone in the address")
    assert page.evaluate("history.length") == entries + 2, "another page is one entry"
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("^Watch"))
    until(page, lambda: asked(page) == expected | {"present": ["1"]}, "the settings in the address again")
    page.locator(".st-key-stage_leave button").first.click()
    until(page, lambda: asked(page) == expected, "no presenter mode in the address")
    page.reload()
    idle(page)
    for parameter, name in moved.items():
        assert [shown(page, name)] == expected[parameter]
    page.go_back()
    assert page.url == "about:blank", "Back did not leave the page"
