"""A teacher trained in the app can teach."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.serving import Server, choose, finish, points, reset, start, until, visit


def test_teacher_trained_live_can_teach(page: Page, server: Server) -> None:
    visit(page, server.link(mode="teacher", teacher="linear", augmentation="none", epochs=server.epochs(1)))
    expect(page.get_by_role("heading", name="Train a teacher from scratch")).to_be_visible()
    start(page)
    until(page, lambda: points(page), "a point")
    finish(page)
    reset(page)
    page.get_by_role("radiogroup", name="What to do").get_by_text("Distil").click()
    expect(page.get_by_role("heading", name="Watch a small network")).to_be_visible()
    choose(page, "Teacher", re.compile(r"^teacher linear ×\d+, \d\d\.\d\d%"))
    start(page)
    finish(page)
    expect(page.get_by_text(re.compile(r"mlp-128 taught by teacher linear"))).to_be_visible()
    expect(page.get_by_test_id("stMetric").filter(has_text="teacher")).to_be_visible()
