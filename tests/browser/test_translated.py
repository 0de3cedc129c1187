"""The page under a browser's translator, which wraps every text in an element of its own."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.serving import Server, answers, idle, until, visit

TRANSLATOR = Path(__file__).with_name("translator.js").read_text()


def test_translated_page_keeps_changing(visitor: Callable[..., Page], server: Server) -> None:
    page = visitor()
    visit(page, server.link(**server.endless()))
    page.locator("html[data-kd-translation]").wait_for(state="attached")
    page.evaluate(TRANSLATOR)
    main, heading = page.get_by_test_id("stMain"), page.get_by_role("heading", level=1)
    expect(heading.locator("font").first).to_be_visible()

    page.locator(".st-key-test_digit button").first.click()
    until(page, lambda: answers(page), "the teacher's answer")
    page.locator(".st-key-start button").first.click()
    line = page.get_by_test_id("stProgress").or_(page.locator(".kd-progress:visible")).first
    until(page, lambda: {"student", "control"} <= answers(page).keys(), "the answers of all")
    assert line.evaluate("node => node.closest('[translate=no].notranslate') !== null")
    assert main.locator(".kd-charts").evaluate_all("all => all.every(node => node.translate === false)")
    first_line, first_answers = line.inner_text(), answers(page)
    until(page, lambda: line.inner_text() != first_line, "progress")
    until(page, lambda: answers(page) != first_answers, "other percentages")
    page.locator(".st-key-pause button").first.click()
    expect(line).to_contain_text("Paused")
    expect(page.locator(".st-key-resume button").first).to_contain_text("Resume")

    page.get_by_test_id("stTopNavLink").nth(1).click()
    expect(heading).to_have_text(re.compile("^«?Draw a digit"))
    idle(page)
    expect(main).not_to_contain_text("Watch a small network")
    page.get_by_test_id("stTopNavLink").nth(0).click()
    expect(heading).to_have_text(re.compile("^«?Watch a small network"))
    expect(main).not_to_contain_text("NotFoundError")
    page.locator(".st-key-stop button").first.click()
    expect(main).to_contain_text("Result")
