"""The owner's cookie in a browser: two tabs, an earlier version's cookie, and a frame of another site."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from playwright.sync_api import Page, expect

from tests.serving import Server, button, start, visit


def owner(page: Page) -> dict:
    """Return the owner's cookie of a page's browser."""
    (found,) = [cookie for cookie in page.context.cookies() if cookie["name"] == "kd_owner"]
    return found


def test_two_tabs_on_a_first_visit_are_one_owner(visitor: Callable[..., Page], server: Server) -> None:
    page = visitor()
    page.goto("about:blank")
    with page.context.expect_page() as opened:
        page.evaluate("link => { window.open(link); location.href = link }", server.link(**server.endless()))
    other = opened.value
    for tab in (page, other):
        expect(button(tab, "Start")).to_be_enabled()
    run = start(page)
    visit(other, server.link(run=run))
    expect(button(other, "Stop")).to_be_enabled()
    button(other, "Stop").click()
    expect(button(page, "Start")).to_be_enabled()
    assert owner(page)["httpOnly"] and owner(page)["sameSite"] == "Lax" and owner(page)["path"] == "/"
    assert "kd_owner" not in page.evaluate("document.cookie")


def test_cookie_of_an_earlier_version_is_kept(visitor: Callable[..., Page], server: Server) -> None:
    page, token = visitor(), secrets.token_urlsafe(24)
    page.context.add_cookies(
        [{"name": "kd_owner", "value": token, "url": server.url, "sameSite": "Strict", "httpOnly": False}]
    )
    visit(page, server.link("methods"))
    assert owner(page)["value"] == token and owner(page)["httpOnly"]


@pytest.fixture
def other_site(server: Server) -> Iterator[str]:
    """Return the address of a page of another site that has the app in a frame."""

    class Frame(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(
                f'<iframe src="{server.link("draw")}" width="1200" height="1000"></iframe>'.encode()
            )

        def log_message(self, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Frame) as outer:
        thread = threading.Thread(target=outer.serve_forever)
        thread.start()
        yield f"http://localhost:{outer.server_port}/"  # to browsers, another site than 127.0.0.1
        outer.shutdown()
        thread.join()


def test_frame_of_another_site_says_what_does_not_work(page: Page, other_site: str) -> None:
    page.goto(other_site)
    frame = page.frame_locator("iframe")
    expect(frame.get_by_text("This browser keeps no cookies for this app here")).to_be_visible()
    expect(frame.get_by_role("link", name="Open in its own tab")).to_be_visible()
    frame.get_by_text("Upload", exact=True).first.click()
    expect(frame.locator('[data-testid="stFileUploaderDropzone"] button')).to_be_disabled()
