"""Websockets and pages with a foreign Host or Origin are refused before Streamlit sees them."""

from __future__ import annotations

import asyncio
import http.client
import socket
from collections.abc import Iterator

import pytest
import streamlit as st
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from kd.ui.server.access import AccessChecks
from tests.server import Server

HOST = "demo.local:8501"


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Streamlit's settings, which a test changes."""
    changed: dict[str, object] = {}
    read = st.get_option
    monkeypatch.setattr(st, "get_option", lambda name: changed.get(name, read(name)))
    return changed


def origin_seen(origin: str | None, host: str = HOST) -> str | None:
    """Return the Origin with which a websocket reaches Streamlit; "refused" where it does not."""
    seen: list[str | None] = []
    sent: list[str] = []

    async def app(scope, receive, send):
        seen.append(dict(scope["headers"]).get(b"origin", b"").decode() or None)

    async def send(message):
        sent.append(message["type"])

    headers = [(b"host", host.encode())] + ([(b"origin", origin.encode())] if origin else [])
    scope = {"type": "websocket", "path": "/_stcore/stream", "headers": headers}
    asyncio.run(AccessChecks(app)(scope, None, send))
    assert (sent == ["websocket.close"]) == (not seen)
    return seen[0] if seen else "refused"


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "https://evil.example:8501",
        "http://demo.local:9999",
        "http://localhost:3000",
        "http://demo.local.evil.example",
        "http://demo.local@evil.example",
        "http://demo.local:port",
        "null",
        "demo.local:8501",
    ],
)
def test_websocket_of_a_foreign_page_is_refused(settings, origin):
    assert origin_seen(origin) == "refused"


@pytest.mark.parametrize("origin", ["http://demo.local:8501", "https://demo.local:8501", None])
def test_websocket_of_the_own_page_is_passed_on(settings, origin):
    assert origin_seen(origin) == origin


def test_default_port_may_be_written_out(settings):
    assert origin_seen("https://demo.local", "demo.local:443") == "https://demo.local:443"
    assert origin_seen("http://demo.local", "demo.local:443") == "refused"


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("server.allowedHosts", ["demo.local", "203.0.113.5"]),
        ("server.corsAllowedOrigins", ["https://203.0.113.5:8443"]),
        ("browser.serverAddress", "203.0.113.5"),
    ],
)
def test_public_address_in_the_settings_is_let_through(settings, setting, value):
    assert origin_seen("http://203.0.113.5:8501") == "refused"
    settings[setting] = value
    # As the Host, so that Streamlit does not look up whether it is the server's public address.
    assert origin_seen("http://203.0.113.5:8501") == f"http://{HOST}"
    assert origin_seen("http://203.0.113.6:8501") == "refused"


def test_any_host_does_not_mean_any_origin(settings):
    settings["server.allowedHosts"] = ["*"]
    assert origin_seen("http://evil.example") == "refused"
    settings["server.enableCORS"] = False
    assert origin_seen("http://evil.example") != "refused"


def test_wrong_host_of_a_websocket_is_refused(settings):
    settings["server.allowedHosts"] = ["demo.local"]
    assert origin_seen("http://rebound.example", "rebound.example") == "refused"
    assert origin_seen("http://demo.local:8501") == "http://demo.local:8501"


# -- a server whose outgoing packets are dropped ----------------------------------------------------


@pytest.fixture(scope="module")
def black_hole() -> Iterator[socket.socket]:
    """Return a listening socket, as a proxy that never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as hole:
        hole.setblocking(False)
        yield hole


@pytest.fixture(scope="module")
def server(black_hole: socket.socket, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a server in a network that drops its packets, which is reached as localhost."""
    folder, port = tmp_path_factory.mktemp("server"), black_hole.getsockname()[1]
    options = ["--server.allowedHosts=localhost", "--server.allowedHosts=public.example"]
    with Server(folder, folder / "data", options, proxy=f"http://127.0.0.1:{port}") as server:
        yield server


def upgrade(server: Server, origin: str) -> int:
    """Return the status with which the server answers a websocket from a page of ``origin``."""
    address = f"ws://localhost:{server.port}/_stcore/stream"
    try:
        with connect(address, origin=origin, subprotocols=["streamlit"], proxy=None, open_timeout=60):
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code


def test_foreign_websockets_cause_no_lookup(server: Server, black_hole: socket.socket) -> None:
    assert [upgrade(server, f"http://evil-{i}.example") for i in range(4)] == [403] * 4
    assert upgrade(server, f"http://localhost:{server.port}") == 101
    assert upgrade(server, "http://public.example") == 101, "named in server.allowedHosts"
    with pytest.raises(BlockingIOError):  # nobody has tried to reach the outside
        black_hole.accept()


def page(server: Server, host: str, path: str = "/") -> tuple[int, str]:
    """Return status and text of the answer to a request for a page of ``host``."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request("GET", path, headers={"Host": host, "Accept": "text/html"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_wrong_host_is_answered_in_a_sentence(server: Server) -> None:
    status, text = page(server, "rebound.example")
    assert status == 403 and text.endswith("add it to server.allowedHosts.")
    assert page(server, "rebound.example", "/runs")[0] == 403
    status, text = page(server, f"localhost:{server.port}")
    assert status == 200 and "<html" in text
    assert page(server, "127.0.0.1", "/_stcore/health") == (200, "ok"), "the container's health check"
