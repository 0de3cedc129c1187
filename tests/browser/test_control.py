"""Pause, resume, one step, stop, reset and changes during training."""

from __future__ import annotations

import json
import re
from typing import Any

from playwright.sync_api import Page, expect

from tests.serving import Server, button, chart, finish, points, reset, run_id, start, steps, until, visit


def stored(server: Server, run: str) -> dict[str, Any]:
    return json.loads((server.home / run / "config.json").read_text())


def test_paused_run_stands_still_until_resumed(page: Page, server: Server) -> None:
    visit(page, server.link(**server.endless()))
    start(page)
    until(page, lambda: len(points(page)) >= 3, "three points")
    button(page, "Pause").click()
    expect(button(page, "Resume")).to_be_visible()
    expect(page.get_by_text("Paused").first).to_be_visible()
    page.wait_for_timeout(600)  # the step under way still ends and is shown
    before = points(page)
    page.wait_for_timeout(1500)  # that nothing happens can only be seen by waiting
    assert points(page) == before
    button(page, "Resume").click()
    until(page, lambda: points(page)[-1:] > before[-1:], "a later point")


def step_once(page: Page, per_epoch: int) -> None:
    before = steps(page, per_epoch)
    button(page, "Step").click()
    until(page, lambda: len(points(page)) > len(before), "one point more")
    assert steps(page, per_epoch) == [*before, before[-1] + 1]


def test_step_is_exactly_one_optimizer_step(page: Page, server: Server) -> None:
    per_epoch = server.steps_per_epoch()
    visit(page, server.link(student="mlp-30", epochs=100))
    button(page, "Step").click()  # there was no run; there is one now, paused after its first step
    until(page, lambda: steps(page, per_epoch) == [1], "the first step")
    expect(button(page, "Resume")).to_be_visible()
    for _ in range(2):
        step_once(page, per_epoch)
    button(page, "Resume").click()
    until(page, lambda: len(points(page)) > 4, "more points")
    button(page, "Pause").click()
    expect(button(page, "Resume")).to_be_visible()
    page.wait_for_timeout(600)  # the step under way still ends and is shown
    step_once(page, per_epoch)


def test_stop_measures_and_stores_the_run(page: Page, server: Server) -> None:
    visit(page, server.link(**server.endless()))
    run = start(page)
    until(page, lambda: len(points(page)) >= 3, "three points")
    button(page, "Stop").click()
    finish(page)
    expect(page.get_by_text(re.compile("^Stopped · "))).to_be_visible()
    expect(button(page, "Start")).to_be_enabled()
    expect(button(page, "Stop")).to_be_disabled()
    assert stored(server, run)["state"] == "stopped"


def test_reset_clears_the_page_and_keeps_the_run(page: Page, server: Server) -> None:
    visit(page, server.link(temperature=6.5, **server.endless() | {"batch_size": 256}))
    run = start(page)
    until(page, lambda: points(page)[-1:] >= [1], "the end of an epoch")  # less than one is not kept
    reset(page)
    expect(chart(page, "accuracy")).to_have_count(0)
    assert "temperature=6.5" in page.url, "the settings went as well"
    until(page, lambda: (server.home / run).exists(), "the run on disk")
    assert stored(server, run)["state"] == "stopped"


def test_temperature_change_is_marked_and_stored(page: Page, server: Server) -> None:
    visit(page, server.link(temperature=4, **server.endless()))
    run = start(page)
    until(page, lambda: len(points(page)) >= 2, "two points")
    slider = page.get_by_role("slider", name="Temperature")
    while float(slider.input_value()) < 5.5:  # a busy page can miss a press
        slider.press("ArrowRight")
    marks = "div => (div.layout.annotations || []).map(mark => mark.text)"
    until(
        page, lambda: chart(page, "accuracy").evaluate(marks)[-1:] == ["T → 5.5"], "the change in the chart"
    )
    expect(page.get_by_text("T = 5.5, soft weight").first).to_be_visible()
    last = points(page)[-1]
    until(page, lambda: points(page)[-1:] > [last], "training that goes on")
    button(page, "Stop").click()
    finish(page)
    config = stored(server, run)["config"]
    assert config["temperature"] == 4 and config["schedule"][-1][1:] == ["temperature", 5.5]
    assert (
        0
        < config["schedule"][-1][0]
        <= json.loads((server.home / run / "measures.json").read_text())["steps"]
    )


def test_double_click_on_start_gives_one_run(page: Page, visitor, server: Server) -> None:
    visit(page, server.link(**server.endless()))
    button(page, "Start").dblclick()
    until(page, lambda: run_id(page) and points(page), "a run with points")
    other = visitor()
    visit(other, server.link(**server.endless()))
    start(other)
    # A second run of the first visitor would stand before this one.
    expect(other.get_by_text("next in line")).to_be_visible()
    reset(other)
    reset(page)
