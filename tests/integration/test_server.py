"""Our own routes and middleware: status, Host and Origin, base path, threads, and clients that leave."""

from __future__ import annotations

import inspect

import pytest
import streamlit as st
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.websockets import WebSocket, WebSocketDisconnect

from kd.ui.server import access, assets, feed, lifespan
from kd.ui.server.middleware import QuietDisconnects, middleware
from kd.ui.server.routes import routes
from tests.asgi import Client, run


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Streamlit's settings, which a test changes."""
    changed: dict[str, object] = {}
    read = st.get_option
    monkeypatch.setattr(st, "get_option", lambda name: changed.get(name, read(name)))
    return changed


@pytest.fixture
def client(settings: dict[str, object]) -> Client:
    return Client(Starlette(routes=routes(), middleware=middleware()))


def test_assets_are_served_gzipped_with_an_etag(client):
    answer = client.get("/kd/assets/plotly.min.js")
    assert answer.status_code == 200 and answer.headers["content-encoding"] == "gzip"
    assert answer.content == assets.ASSETS["plotly.min.js"].read_bytes()
    assert answer.headers["cache-control"] == "no-cache"
    again = client.get("/kd/assets/plotly.min.js", headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304 and not again.content


def test_an_asset_with_a_version_is_kept_for_a_year(client):
    assert "max-age=31536000" in client.get("/kd/assets/plotly.min.js?v=1").headers["cache-control"]


def test_a_client_without_gzip_gets_plain_bytes(client):
    answer = client.get("/kd/assets/plotly.min.js", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in answer.headers
    assert answer.content == assets.ASSETS["plotly.min.js"].read_bytes()


def test_an_asset_that_is_not_installed_gets_404_in_a_sentence(client, monkeypatch, tmp_path):
    monkeypatch.setitem(assets.ASSETS, "ort.wasm", tmp_path / "ort.wasm")
    answer = client.get("/kd/assets/ort.wasm")
    assert answer.status_code == 404
    assert answer.text == "ort.wasm is not installed on this server. Run `make app` again."
    (tmp_path / "ort.wasm").write_bytes(b"\0asm")
    answer = client.get("/kd/assets/ort.wasm")
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/wasm"


@pytest.mark.parametrize(
    "path", ["/kd/assets/secret", "/kd/assets/../../app.py", "/kd/assets/", "/kd/x/y", "/kd/"]
)
def test_unknown_addresses_get_404_in_a_sentence(client, path):
    answer = client.get(path)
    assert (
        answer.status_code == 404
        and answer.text.startswith("There is no")
        and answer.text.endswith("here.")
        or (answer.text == "There is nothing at this address.")
    )


def test_routes_move_with_the_base_path(settings):
    settings["server.baseUrlPath"] = "/demo/"
    client = Client(Starlette(routes=routes()))
    assert client.get("/demo/kd/assets/plotly.min.js").status_code == 200
    assert client.get("/kd/assets/plotly.min.js").status_code == 404


def test_hosts_that_are_not_allowed_are_refused(client, settings):
    assert client.get("/kd/assets/plotly.min.js").status_code == 200, "no list: every name"
    settings["server.allowedHosts"] = ["demo.local"]
    assert client.get("/kd/assets/plotly.min.js").status_code == 200
    answer = client.get("/kd/assets/plotly.min.js", headers={"Host": "evil.example"})
    assert answer.status_code == 403 and "server.allowedHosts" in answer.text


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("demo.local", True),
        ("DEMO.local.:8501", True),
        ("a.example.org", True),
        ("example.org", False),
        ("badexample.org", False),
        ("demo.local.evil.example", False),
        ("demo.local@evil.example", False),
        ("demo.local:port", False),
        ("demo.local/x", False),
        ("", False),
        (None, False),
    ],
)
def test_a_host_is_allowed_by_its_name_alone(host, allowed):
    assert access.host_is_allowed(host, ["demo.local", "*.example.org"]) is allowed
    assert access.host_is_allowed(host, ["*"]) is (
        allowed or host in ("example.org", "badexample.org", "demo.local.evil.example")
    )


def test_pages_of_other_origins_are_refused(client, settings):
    path = "/kd/assets/plotly.min.js"
    assert client.get(path, headers={"Origin": "http://demo.local:8501"}).status_code == 200
    assert client.get(path, headers={"Origin": "https://demo.local:8501"}).status_code == 200, (
        "behind a TLS proxy"
    )
    for origin in ("http://evil.example", "http://demo.local:9999", "null"):
        answer = client.get(path, headers={"Origin": origin})
        assert answer.status_code == 403 and "other sites" in answer.text
        assert "access-control-allow-origin" not in answer.headers
    settings["server.corsAllowedOrigins"] = ["http://evil.example"]
    assert client.get(path, headers={"Origin": "http://evil.example"}).status_code == 200
    settings["server.corsAllowedOrigins"] = []
    settings["server.enableCORS"] = False
    assert client.get(path, headers={"Origin": "http://evil.example"}).status_code == 200


def test_only_get_is_answered(client):
    assert client.ask("POST", "/kd/assets/plotly.min.js").status_code == 405


def test_handlers_run_in_threads():
    """An ``async def`` that waits for a lock or computes would block every websocket."""
    handlers = [route.endpoint for mount in routes("") for route in mount.routes if isinstance(route, Route)]
    assert len(handlers) >= 2
    for handler in handlers:
        if handler is feed.serve:  # waits and computes in a thread: see test_feed.py
            continue
        assert not inspect.iscoroutinefunction(handler), handler


def test_a_client_that_leaves_during_a_send_is_no_error():
    """Without the middleware ``receive_bytes`` raises a RuntimeError, which Streamlit takes for text."""
    heard = [
        {"type": "websocket.connect"},
        {"type": "websocket.receive", "bytes": b"the last that was on its way"},
        {"type": "websocket.disconnect", "code": 1006},
    ]
    sent = []

    async def receive():
        return heard.pop(0)

    async def send(message):
        sent.append(message["type"])
        if message["type"] == "websocket.send":
            raise OSError("nobody is there")

    async def app(scope, receive, send):
        socket = WebSocket(scope, receive, send)
        await socket.accept()
        assert await socket.receive_bytes() == b"the last that was on its way"
        await socket.send_bytes(b"news")
        await socket.send_bytes(b"more news")
        with pytest.raises(WebSocketDisconnect):
            await socket.receive_bytes()

    run(QuietDisconnects(app)({"type": "websocket"}, receive, send))
    assert sent == ["websocket.accept", "websocket.send"] and not heard


def test_nothing_is_sent_after_a_disconnect():
    async def receive():
        return {"type": "websocket.disconnect"}

    async def send(message):
        raise RuntimeError("Unexpected message after the close")

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.send", "bytes": b"news"})

    run(QuietDisconnects(app)({"type": "websocket"}, receive, send))


def test_other_errors_of_a_send_are_raised():
    async def send(message):
        raise ValueError("a defect")

    async def app(scope, receive, send):
        await send({"type": "websocket.send", "bytes": b"news"})

    with pytest.raises(ValueError, match="a defect"):
        run(QuietDisconnects(app)({"type": "websocket"}, None, send))


def test_lifespan_closes_what_was_registered_once():
    closed = []
    lifespan.at_end(lambda: closed.append("first"))
    lifespan.at_end(lambda: closed.append("second"))

    async def serve():
        async with lifespan.lifespan(None):
            pass

    run(serve())
    run(serve())
    assert closed == ["second", "first"]
