"""The first paint of a page: a sentence until the app itself shows something, instead of a white page."""

from __future__ import annotations

import functools

import streamlit as st
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kd.ui import frontend

TITLE = b"<title>Distillation, live</title>"
NO_PAGE = "There is no page at this address. Shorten it to the app's own address."
_ROOT = b'<div id="root">'  # in Streamlit's page
_CONDITIONS = ("accept-encoding", "if-none-match", "if-modified-since", "range")


@functools.cache
def _added() -> bytes:
    script = f"<script>\n{frontend.read('first_paint.js')}</script>\n"
    return (frontend.read("first_paint.html") + script).encode()


def painted(page: bytes) -> bytes:
    """Return Streamlit's page with our title and the first sentence."""
    page = page.replace(b"<title>Streamlit</title>", TITLE, 1)
    before, end, after = page.rpartition(b"</body>")
    return before + _added() + end + after if end else page


def _is_too_deep(path: str) -> bool:
    """Return whether a path is below a page, from where Streamlit's page finds none of its files."""
    base = (st.get_option("server.baseUrlPath") or "").strip("/")
    return "/" in path.strip("/").removeprefix(base).strip("/")


class FirstPaint:
    """Add the first sentence to each page.

    Streamlit's page is empty until 1 MB of scripts has been loaded and the app's script has run, which takes
    seconds for the first visitor of a server. It is small, so it is sent whole each time.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Change pages; pass everything else on."""
        if scope["type"] != "http" or "text/html" not in Headers(scope=scope).get("accept", ""):
            await self._app(scope, receive, send)
            return
        headers = [(name, value) for name, value in scope["headers"] if name.decode() not in _CONDITIONS]
        scope = dict(scope, headers=headers, extensions={})  # without extensions the content comes as bytes
        start: Message | None = None
        content = b""

        async def send_painted(message: Message) -> None:
            nonlocal start, content
            if message["type"] == "http.response.start":
                answer = Headers(raw=message["headers"])
                is_page = answer.get("content-type", "").startswith("text/html") and message["status"] == 200
                start = message if is_page and scope["method"] == "GET" else None
            if start is None:
                await send(message)
            elif message["type"] == "http.response.body":
                content += message.get("body", b"")
                if message.get("more_body"):
                    return
                if _ROOT not in content:  # not Streamlit's page, but a report that is downloaded
                    await send(start)
                    await send({"type": "http.response.body", "body": content})
                elif _is_too_deep(scope["path"]):
                    await PlainTextResponse(NO_PAGE, 404)(scope, receive, send)
                else:
                    page = painted(content)
                    answer = MutableHeaders(scope=start)
                    answer["content-length"] = str(len(page))
                    for name in ("etag", "last-modified", "accept-ranges"):
                        del answer[name]
                    await send(start)
                    await send({"type": "http.response.body", "body": page})

        await self._app(scope, receive, send_painted)
