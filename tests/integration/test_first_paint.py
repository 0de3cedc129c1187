"""The first paint of a page, on the page of the installed Streamlit."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import streamlit as st
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from kd.ui.server.middleware import middleware
from tests.asgi import Client

INDEX = Path(importlib.util.find_spec("streamlit").origin).parent / "static" / "index.html"
PAGE = {"Accept": "text/html,*/*;q=0.8"}
REPORT = "<html><head><title>Streamlit</title></head><body>a report</body></html>"
ETAG = '"the file"'


def index(request: Request) -> Response:
    """Answer as a file server does."""
    if request.headers.get("if-none-match") == ETAG:
        return Response(status_code=304)
    status = 206 if "range" in request.headers else 200
    return HTMLResponse(INDEX.read_bytes(), status, {"ETag": ETAG, "Last-Modified": "today"})


@pytest.fixture
def client() -> Client:
    """Return a client of an app with Streamlit's page and another file, behind the app's middleware."""
    report = Route("/media/report.html", lambda request: HTMLResponse(REPORT))
    page = Route("/{page:path}", index)
    text = Route("/text", lambda request: PlainTextResponse("<title>Streamlit</title></body>"))
    return Client(
        Starlette(routes=[text, report, page], middleware=[*middleware(), Middleware(GZipMiddleware)])
    )


def test_page_begins_with_a_sentence_and_the_apps_title(client):
    answer = client.get("/", headers=PAGE)
    assert answer.status_code == 200 and int(answer.headers["content-length"]) == len(answer.content)
    assert "<title>Distillation, live</title>" in answer.text and "<title>Streamlit" not in answer.text
    root, sentence = answer.text.index('<div id="root">'), answer.text.index('<div id="kd-first-paint"')
    assert root < sentence < answer.text.index("new MutationObserver") < answer.text.index("</body>")


def test_page_is_whole_whatever_the_browser_has(client):
    whole = client.get("/", headers=PAGE)
    assert "etag" not in whole.headers and "last-modified" not in whole.headers
    assert client.get("/", headers={"If-None-Match": ETAG}).status_code == 304, "not asked for as a page"
    for header in ({"If-None-Match": ETAG}, {"Range": "bytes=0-9"}, {"Accept-Encoding": "gzip"}):
        answer = client.get("/", headers=PAGE | header)
        assert answer.status_code == 200 and answer.content == whole.content


def test_report_is_downloaded_as_it_is(client):
    answer = client.get("/media/report.html", headers=PAGE)
    assert answer.status_code == 200 and answer.text == REPORT


def test_other_answers_are_not_changed(client):
    assert client.get("/", headers={"Accept": "*/*"}).content == INDEX.read_bytes()
    assert client.get("/text", headers=PAGE).text == "<title>Streamlit</title></body>"
    assert client.ask("HEAD", "/", headers=PAGE).status_code == 200


@pytest.mark.parametrize("base", ["", "teaching/demo"])
def test_address_below_a_page_is_answered_in_a_sentence(client, monkeypatch, base):
    """Streamlit's page would stay empty there: it looks for its files next to that address."""
    read = st.get_option
    monkeypatch.setattr(st, "get_option", lambda name: base if name == "server.baseUrlPath" else read(name))
    answer = client.get(f"/{base}/runs/deeper".replace("//", "/"), headers=PAGE)
    assert answer.status_code == 404 and answer.text.startswith("There is no page at this address.")
    for page in ("", "/", "/runs", "/runs/"):
        assert client.get(f"/{base}{page}".replace("//", "/") or "/", headers=PAGE).status_code == 200
