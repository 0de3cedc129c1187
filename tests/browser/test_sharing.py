"""Reloads, links, and several people at once."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.serving import Server, button, draw, errors, points, reset, run_id, says, start, until, visit
from tests.strokes import DIGITS

BAD = [
    "run=../../etc",
    "temperature=1e9",
    "student=mlp-99999999",
    "student=<script>alert(1)</script>",
    "epochs=-3",
    "seed=nan",
]


def test_reload_finds_the_run_with_its_buttons(page: Page, server: Server) -> None:
    visit(page, server.link(temperature=7, **server.endless()))
    run = start(page)
    before = until(page, lambda: points(page), "a point")
    page.reload()
    until(page, lambda: len(points(page)) > len(before), "the same chart, further on")
    assert run_id(page) == run and "temperature=7" in page.url
    button(page, "Pause").click()
    expect(button(page, "Resume")).to_be_visible()
    button(page, "Stop").click()
    expect(button(page, "Start")).to_be_enabled()


def test_link_allows_watching_but_no_commands(
    page: Page, visitor: Callable[..., Page], server: Server
) -> None:
    visit(page, server.link(temperature=4, **server.endless()))
    start(page)
    until(page, lambda: points(page), "a point")
    guest = visitor()
    visit(guest, page.url)
    before = until(guest, lambda: points(guest), "the same chart")
    until(guest, lambda: points(guest)[-1:] > before[-1:], "a later point")
    expect(guest.get_by_text("somebody else started")).to_be_visible()
    for name in ("Pause", "Resume"):
        expect(button(guest, name)).to_have_count(0)
    for name in ("Stop", "Step"):
        expect(button(guest, name)).to_be_disabled()
    # The guest's settings are for a run of their own, and Reset is their way out; neither touches this run.
    guest.get_by_role("slider", name="Temperature").press("ArrowRight")
    until(guest, lambda: "temperature=4.5" in guest.url, "the guest's temperature in the guest's link")
    reset(guest)
    last = points(page)[-1:]
    until(page, lambda: points(page)[-1:] > last, "a run that goes on")
    expect(page.get_by_text("T = 4, soft weight").first).to_be_visible()


def test_spectator_fetches_updates_without_script_runs(
    page: Page, visitor: Callable[..., Page], server: Server
) -> None:
    visit(page, server.link(**server.endless()))
    start(page)
    until(page, lambda: points(page), "a point")
    guest, asked, fetched = visitor(), [], []
    guest.on("websocket", lambda socket: socket.on("framesent", lambda frame: asked.append(frame)))
    guest.on("request", lambda request: "/kd/feed/" in request.url and fetched.append(request.url))
    visit(guest, page.url)
    until(guest, lambda: points(guest), "the same chart")
    asked.clear()
    for _ in range(5):
        last = points(guest)[-1:]
        until(guest, lambda last=last: points(guest)[-1:] > last, "a later point")
    assert len(fetched) >= 5 and len(asked) <= len(fetched) / 3, "but for a sign of life now and then"
    button(page, "Pause").click()
    expect(guest.get_by_text(re.compile("^Paused · epoch")).first).to_be_visible()
    button(page, "Stop").click()
    expect(guest.get_by_text(re.compile("^Stopped · epoch")).first).to_be_visible()


def test_second_run_waits_and_each_has_its_own_controls(
    page: Page, visitor: Callable[..., Page], server: Server
) -> None:
    visit(page, server.link(**server.endless()))
    first = start(page)
    until(page, lambda: points(page), "a point")
    other = visitor()
    visit(other, server.link(**server.endless()))
    second = start(other)
    assert first != second
    expect(other.get_by_text("next in line")).to_be_visible()
    expect(button(other, "Stop")).to_be_enabled()
    last = points(page)[-1:]
    until(page, lambda: points(page)[-1:] > last, "a first run that goes on")
    button(page, "Stop").click()
    until(other, lambda: points(other), "its turn")
    expect(button(other, "Pause")).to_be_enabled()
    expect(button(page, "Start")).to_be_enabled()


def test_bad_link_gives_one_sentence_and_a_working_page(page: Page, server: Server) -> None:
    for query in BAD:
        visit(page, f"{server.url}/?{query}")
        until(page, lambda: errors(page), f"an error about {query}")
        (sentence,) = errors(page)
        assert sentence.endswith(".") and "\n" not in sentence and "Traceback" not in sentence, sentence
        expect(button(page, "Start")).to_be_enabled()
    draw(page, DIGITS[0])
    says(page, 0)
