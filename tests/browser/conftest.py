"""A server, a browser and its users. Without a browser all these tests are skipped with a message."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from playwright.sync_api import Error as PlaywrightError

from tests.serving import (
    NO_BROWSER,
    PATIENCE,
    Server,
    button,
    chromium_path,
    finish,
    idle,
    launch,
    start,
    visit,
)

HERE = Path(__file__).parent
#: When a visit begins at another page than the first, Streamlit's client requests these below that page
#: before it requests them at the root.
PROBE = re.compile(
    r"404 .*/(draw|runs|dark_knowledge|compare|compress|methods|paper|sweep)/_stcore/(health|host-config)"
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.browser)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = [r for r in terminalreporter.stats.get("skipped", []) if NO_BROWSER in str(r.longrepr)]
    if skipped:
        terminalreporter.write_sep("!", f"{len(skipped)} browser tests did not run", red=True)
        terminalreporter.write_line(NO_BROWSER)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if chromium_path() is None:
        if os.environ.get("CI", "").lower() in ("true", "1"):
            pytest.fail(NO_BROWSER, pytrace=False)
        pytest.skip(NO_BROWSER)
    expect.set_options(timeout=PATIENCE * 1000)
    with sync_playwright() as playwright, launch(playwright) as browser:
        yield browser


@pytest.fixture(scope="session")
def server(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return the server that most tests share."""
    with Server(tmp_path_factory.mktemp("server")) as server:
        yield server


def end(page: Page) -> None:
    """Stop the run that a page shows, if it may."""
    if page.url.startswith("http"):
        with contextlib.suppress(PlaywrightError):  # a page of its own, whose server may be gone by now
            idle(page, 10)
    stop = button(page, "Stop")
    if stop.is_visible() and stop.is_enabled():
        stop.click()
        expect(stop).to_be_disabled()


@pytest.fixture
def visitor(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Makes pages, each of another person: with cookies of their own.

    Whatever a page complains about in its console fails the test; a run that is left under way is ended.
    """
    opened: list[Page] = []
    complaints: list[str] = []

    def hear(complaint: str) -> None:
        if not PROBE.search(complaint):
            complaints.append(complaint)

    def new(**options) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        context.set_default_timeout(PATIENCE * 1000)
        page = context.new_page()
        page.on(
            "console",
            lambda message: message.type == "error" and hear(f"{message.text} ({message.location['url']})"),
        )
        page.on("pageerror", lambda error: hear(error.stack or str(error)))
        page.on("dialog", lambda dialog: (hear(f"dialog: {dialog.message}"), dialog.dismiss()))
        opened.append(page)
        return page

    yield new
    for page in opened:
        end(page)
        page.context.close()
    assert not complaints, "the browser's console: " + "; ".join(complaints)


@pytest.fixture
def page(visitor: Callable[..., Page], server: Server) -> Iterator[Page]:
    """Return a page of one visitor on the shared server, whose log must stay clean."""
    server.complaints()
    yield visitor()
    assert not (found := server.complaints()), found


@pytest.fixture(scope="session")
def student(browser: Browser, server: Server) -> str:
    """Return the id of another visitor's stored run with a well-trained student."""
    page = browser.new_page()
    page.set_default_timeout(PATIENCE * 1000)
    visit(page, server.link(student="mlp-128", temperature=5.5, epochs=server.epochs(5)))
    run = start(page)
    finish(page)
    page.context.close()
    return run


@pytest.fixture
def stored(server: Server, student: str) -> str:
    """Return the name of a stored run that belongs to another visitor."""
    return json.loads((server.home / student / "config.json").read_text())["name"]
