"""Short forms of the stress tests in tests/stage, and a room with a presenter."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from kd.config.distil import DistilConfig
from kd.models import registry
from kd.store import runs
from tests.helpers import MEASURES
from tests.serving import Server, button, choose, until, visit
from tests.stage import clicker, load, soak, starts
from tests.stage.promise import Promise

EVIL = "<img src=x onerror=alert(1)>![x](https://e.example/x.png)"


def of(promises: list[Promise], *without: str) -> list[str]:
    """Return the broken promises, except those that a busy machine may miss within seconds."""
    return [
        f"{promise.what}: {promise.found}"
        for promise in promises
        if not promise.kept and not promise.what.startswith(without)
    ]


def alone(coroutine):
    """Run in another thread, because Playwright has an event loop in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


def test_viewers_watch_and_draw_without_an_error(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("SETTLE", 0.2), ("PACE", 1.0), ("THINKING", 0.5)):
        monkeypatch.setattr(load, name, seconds)
    promises = alone(load.measure(server, 5, 0, 2, 1, 1.0))
    assert not of(promises, "stroke to answer", "update to update", "training speed")
    assert all(promise.found != "inf s" for promise in promises), "all was measured"


def test_many_starts_are_accepted_or_refused(server: Server) -> None:
    assert not of(alone(starts.measure(server, starts.ACCEPTED + 2, 1.0)), "told after")


@pytest.fixture
def stranger_to_playwright() -> Iterator[Callable]:
    with ThreadPoolExecutor(1) as thread:
        yield lambda call, *arguments: thread.submit(call, *arguments).result()


def test_round_of_use_leaves_no_error(
    server: Server, stranger_to_playwright: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soak, "WARM", -1)  # one round
    promises = stranger_to_playwright(soak.soak, server, 0.0, 0.0)
    assert not of(promises)


def test_random_clicks_break_and_lose_nothing(tmp_path: Path, stranger_to_playwright: Callable) -> None:
    with Server(tmp_path) as own:
        promises = stranger_to_playwright(clicker.click, own, 25, 0)
    assert not of(promises, "longest wait")


@pytest.fixture
def hostile(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[runs.Run]:
    """Return a stored run whose name contains picture markup."""
    monkeypatch.setenv("KD_HOME", str(server.home))
    trained = {who: registry.build("mlp-30", 1) for who in ("student", "control")}
    run = runs.save(
        runs.new_id(),
        DistilConfig(student="mlp-30"),
        "done",
        [],
        trained,
        MEASURES,
        runs.owner_digest("somebody"),
        name=EVIL,
    )
    yield run
    runs.delete(run.id, "somebody")


def test_name_with_picture_markup_is_shown_as_typed(page: Page, server: Server, hostile: runs.Run) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    visit(page, server.link("runs"))
    until(page, lambda: page.get_by_role("combobox", name="Run", exact=True).count(), "the runs")
    choose(page, "Run", EVIL)
    shown = EVIL.replace("://", ":\u2060//")  # an invisible character keeps the address from becoming a link
    expect(page.get_by_role("heading", name=shown)).to_have_text(shown)
    visit(page, server.link(run=hostile.id))
    expect(button(page, "Start")).to_be_enabled()
    assert not page.locator('img[src="x"], img[src*="e.example"]').count() and not [
        url for url in asked if "e.example" in url
    ]
