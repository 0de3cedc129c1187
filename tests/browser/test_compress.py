"""Compression in a browser: sliders, live fine-tuning and the resulting network."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.serving import PATIENCE, Server, answers, button, draw, points, until, visit
from tests.strokes import DIGITS


def test_compressed_and_fine_tuned_student_reads_a_drawing(page: Page, server: Server, student: str) -> None:
    visit(page, server.link("compress", network=student, epochs="1"))
    size = page.get_by_test_id("stMetric").filter(has_text="Size of the file").get_by_test_id("stMetricValue")
    before = size.inner_text()
    slider = page.get_by_role("slider", name="Neurons, by weight")
    slider.focus()
    slider.press("ArrowRight")
    until(page, lambda: size.inner_text() != before, "another size")
    until(page, lambda: "neurons=51" in page.url, "the slider in the address")
    until(
        page,
        lambda: page.locator(".kd-chart.compress_way .scatterlayer .trace").count() == 2,
        "the ways of student and control",
    )

    button(page, "Fine-tune with the teacher").click()
    until(page, lambda: points(page), "a first point")
    expect(button(page, "Fine-tune with the teacher")).to_be_disabled()
    expect(page.get_by_role("heading", name="Result on the test set")).to_be_visible(
        timeout=3 * PATIENCE * 1000
    )
    expect(page.get_by_text(re.compile("the network that was never distilled"))).to_be_visible()

    page.get_by_role("link", name="Draw a digit for the fine-tuned network").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Draw a digit and compare the answers")
    draw(page, DIGITS[3])
    until(
        page,
        lambda: {"teacher", "student", "control"} <= answers(page).keys(),
        "three answers to the drawing",
    )
