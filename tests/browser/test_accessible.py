"""Accessibility: axe-core's findings, keyboard use and reduced motion."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Locator, Page, expect

from tests.serving import Server, answers, button, points, until, visit

PAGES = {
    "distil": ("", {}),
    "stage": ("", {"present": 1}),
    "replay": ("", {}),
    "draw": ("draw", {}),
    "dark knowledge": ("dark_knowledge", {}),
    "runs": ("runs", {}),
    "sweep": ("sweep", {}),
    "compare": ("compare", {}),
    "compress": ("compress", {}),
    "methods": ("methods", {}),
    "paper": ("paper", {}),
}
#: What a page cannot change: rule -> (part of the node, why).
NOT_OURS = {
    "scrollable-region-focusable": (
        "dc-scroll",
        "the drawing canvas's own frame, which by rounding is a pixel smaller than the canvas",
    )
}


def findings(page: Page) -> list[str]:
    """Return the serious and critical findings in our own elements."""
    found = page.evaluate("axe.run({ resultTypes: ['violations'] })")["violations"]
    return [
        f"{rule['id']}: {node['html'][:200]} {node.get('failureSummary', '')[:300]}"
        for rule in found
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
        if not (rule["id"] in NOT_OURS and NOT_OURS[rule["id"]][0] in node["html"] + str(node["target"]))
    ]


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_serious_in_light_and_dark(
    visitor: Callable[..., Page], server: Server, student: str, name: str
) -> None:
    path, query = PAGES[name]
    page = visitor(color_scheme="light", bypass_csp=True)
    visit(page, server.link(path, **query, **({"replay": student} if name == "replay" else {"run": student})))
    page.locator(".st-key-kd_style style").wait_for(state="attached")
    page.evaluate(AXE_SCRIPT)
    background = page.get_by_test_id("stApp").evaluate("app => getComputedStyle(app).backgroundColor")
    light = findings(page)
    page.emulate_media(color_scheme="dark")
    until(
        page,
        lambda: (
            page.get_by_test_id("stApp").evaluate("app => getComputedStyle(app).backgroundColor")
            != background
        ),
        "the dark theme",
    )
    page.wait_for_timeout(300)  # colours fade
    dark = findings(page)
    assert not light and not dark, "\n".join(["light:", *light, "dark:", *dark])


def tab_to(page: Page, target: Locator) -> None:
    for _ in range(150):
        if target.count() and target.evaluate("node => node.matches(':focus-within')"):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab never comes to {target}")


def test_start_pause_digit_and_pages_work_by_keyboard(visitor: Callable[..., Page], server: Server) -> None:
    page = visitor(reduced_motion="reduce")
    visit(page, server.link(**server.endless()))
    assert (
        button(page, "Start").evaluate("node => parseFloat(getComputedStyle(node).transitionDuration)")
        < 0.001
    )
    tab_to(page, button(page, "Start"))
    page.keyboard.press("Enter")
    until(page, lambda: points(page), "a point")
    tab_to(page, button(page, "Pause"))
    page.keyboard.press("Enter")
    expect(button(page, "Resume")).to_be_visible()
    tab_to(page, button(page, "Test digit"))
    page.keyboard.press("Enter")
    until(page, lambda: {"teacher", "student", "control"} <= answers(page).keys(), "three answers")
    tab_to(page, button(page, "Stop"))
    page.keyboard.press("Enter")
    expect(button(page, "Start")).to_be_enabled()
    tab_to(page, page.get_by_role("link", name="Draw", exact=True).first)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Draw a digit and compare the answers")
