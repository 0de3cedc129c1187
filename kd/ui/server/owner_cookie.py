"""The owner's cookie: the random token by which a browser's runs are its own. Scripts cannot read it."""

from __future__ import annotations

import re
import secrets

import streamlit as st
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "kd_owner"
YEAR = 31_536_000  # seconds
_TOKEN = re.compile(r"[A-Za-z0-9_-]{32,64}")
#: Streamlit's client asks for it before it opens the websocket, from the page itself.
_BEFORE_WEBSOCKET = "/_stcore/host-config"


def token_in(cookies: str) -> str | None:
    """Return the owner's token in a Cookie header; None without a valid one.

    Browsers send the cookie of the longest path first: that of this app before that of another one above it.
    """
    for part in cookies.split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE and _TOKEN.fullmatch(value):
            return value
    return None


def set_cookie(token: str, secure: bool) -> str:
    """Return the Set-Cookie header for a token, limited to the path that the app is served below.

    With SameSite=Lax it comes along when a link of another site is followed, with Strict it would not.
    """
    base = (st.get_option("server.baseUrlPath") or "").strip("/")
    attributes = f"Path=/{base}; Max-Age={YEAR}; HttpOnly; SameSite=Lax"
    return f"{COOKIE}={token}; {attributes}{'; Secure' if secure else ''}"


class OwnerCookie:
    """Give each browser a token with the first page, and again with each page, so that it is kept.

    A browser that has a token keeps it, also one that a script of an earlier version has set. It does not
    send such a cookie (SameSite=Strict) when it follows a link of another site: then no page may bring a new
    token, and a browser that really has none gets one before its websocket opens.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the cookie to pages; pass everything else on."""
        if scope["type"] != "http" or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        token = token_in(headers.get("cookie", ""))
        if "text/html" in headers.get("accept", ""):  # a page
            wanted = token is not None or headers.get("sec-fetch-site") != "cross-site"
        else:
            wanted = token is None and scope["path"].endswith(_BEFORE_WEBSOCKET)
        if not wanted:
            await self._app(scope, receive, send)
            return
        cookie = set_cookie(token or secrets.token_urlsafe(24), _is_secure(scope, headers))

        async def send_with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] in (200, 304):
                answer = MutableHeaders(scope=message)
                answer.append("set-cookie", cookie)
                answer["cache-control"] = "private, no-cache"  # no proxy may keep one visitor's cookie
            await send(message)

        await self._app(scope, receive, send_with_cookie)


def _is_secure(scope: Scope, headers: Headers) -> bool:
    """Return whether the browser speaks TLS, to this server or to the proxy in front of it."""
    forwarded = headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
    return "https" in (scope.get("scheme"), forwarded)
