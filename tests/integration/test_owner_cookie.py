"""The owner's cookie: set by the server, unreadable for scripts, and kept where a browser has one."""

from __future__ import annotations

import pytest
import streamlit as st
from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.routing import Route

from kd.ui.server.middleware import middleware
from kd.ui.server.owner_cookie import token_in
from tests.asgi import Client

TOKEN, OTHER = "Aa0-" * 8, "Bb1_" * 8  # the same in each process that runs the tests
PAGE = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8", "Sec-Fetch-Site": "none"}
SCRIPT = {"Accept": "*/*", "Sec-Fetch-Site": "same-origin"}
CROSS = PAGE | {"Sec-Fetch-Site": "cross-site"}


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """Return the path that the app is served below."""
    path, read = getattr(request, "param", ""), st.get_option
    monkeypatch.setattr(st, "get_option", lambda name: path if name == "server.baseUrlPath" else read(name))
    return path


@pytest.fixture
def client(base: str) -> Client:
    """Return a client of an app that answers each request with a page, behind the app's middleware."""
    page = Route("/{path:path}", lambda request: HTMLResponse("<html><head></head></html>"))
    return Client(Starlette(routes=[page], middleware=middleware()))


def cookie(client: Client, path: str = "/", **headers: str) -> tuple[str, set[str]] | None:
    """Return the owner's token that an answer sets, and the cookie's attributes; None if it sets none."""
    answer = client.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    assert answer.status_code == 200
    if "set-cookie" not in answer.headers:
        return None
    assert answer.headers["cache-control"] == "private, no-cache", "nobody else may get this cookie"
    first, *attributes = answer.headers["set-cookie"].split("; ")
    return token_in(first), set(attributes)


def test_first_page_brings_a_token_that_scripts_cannot_read(client):
    (one, attributes), (two, _) = cookie(client, **PAGE), cookie(client, **PAGE)
    assert one and two and one != two
    assert attributes == {"Path=/", "Max-Age=31536000", "HttpOnly", "SameSite=Lax"}


@pytest.mark.parametrize("base", ["demo", "/demo/"], indirect=True)
def test_cookie_is_limited_to_the_apps_path(client, base):
    assert "Path=/demo" in cookie(client, "/demo/runs", **PAGE)[1]


def test_cookie_is_secure_behind_a_tls_proxy(client):
    assert "Secure" in cookie(client, **PAGE, X_Forwarded_Proto="https")[1]
    assert "Secure" in cookie(client, **PAGE, X_Forwarded_Proto="https, http")[1]
    assert "Secure" not in cookie(client, **PAGE, X_Forwarded_Proto="http, https")[1]


def test_token_that_a_browser_has_is_kept_and_set_again(client):
    token, attributes = cookie(client, **PAGE, Cookie=f"_streamlit_xsrf=2|a|b; kd_owner={TOKEN}")
    assert token == TOKEN and "HttpOnly" in attributes
    assert cookie(client, **CROSS, Cookie=f"kd_owner={TOKEN}")[0] == TOKEN


@pytest.mark.parametrize("value", ["", "short", "x" * 65, "a b" * 20, f'"{TOKEN}"', f"{TOKEN}é"])
def test_value_that_is_no_token_is_replaced(client, value):
    token, _ = cookie(client, **PAGE, Cookie=f"kd_owner={value}")
    assert token and token not in value


def test_cookie_of_the_longest_path_counts():
    assert token_in(f"kd_owner={TOKEN}; a=b; kd_owner={OTHER}") == TOKEN
    assert token_in(f"kd_owner=; kd_owner={OTHER}") == OTHER
    assert token_in(f"xkd_owner={TOKEN}") is None and token_in("") is None


def test_link_of_another_site_does_not_replace_a_strict_cookie(client):
    """A browser does not send it then; it does when the page itself asks, before the websocket opens."""
    assert cookie(client, **CROSS) is None
    assert cookie(client, "/_stcore/host-config", **SCRIPT, Cookie=f"kd_owner={TOKEN}") is None
    assert cookie(client, "/_stcore/host-config", **SCRIPT)[0]


@pytest.mark.parametrize("path", ["/static/js/index.js", "/kd/assets/plotly.min.js", "/_stcore/health"])
def test_other_answers_bring_no_cookie(client, path):
    assert cookie(client, path, **SCRIPT) is None
    assert cookie(client, path, **SCRIPT, Cookie=f"kd_owner={TOKEN}") is None
