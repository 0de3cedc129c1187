"""Check Host and Origin of every request, before Streamlit sees it.

Streamlit checks them on its websocket only. For a foreign Origin it looks up the server's public address,
which blocks all visitors: for two seconds each time, where outgoing packets are dropped.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from urllib.parse import urlsplit

import streamlit as st
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_WRONG_HOST = "This server does not accept that host name. To allow it, add it to server.allowedHosts."
_WRONG_ORIGIN = (
    "Pages from other sites may not use this address. If this is the app's own page behind a proxy, add the "
    "name in the browser's address bar to server.allowedHosts."
)
_HEALTH = "/_stcore/health"  # requested from the same machine, by whatever name
_DEFAULT_PORTS = {"http": 80, "https": 443}
log = logging.getLogger(__name__)


def host_is_allowed(host: str | None, allowed: Sequence[str]) -> bool:
    """Return whether a Host header names this server.

    Args:
        host: the header's value, with or without a port; None if it is missing.
        allowed: ``server.allowedHosts``: names, ``*.example.org`` for all subdomains, ``*`` for every name.
            If empty, every name is allowed.
    """
    if not allowed:
        return True
    name = host_name(f"//{host}") if host else None
    return name is not None and _is_named(name, allowed)


def _is_named(name: str, allowed: Sequence[str]) -> bool:
    patterns = [pattern.strip().lower().rstrip(".") for pattern in allowed]
    return any(
        pattern in ("*", name) or (pattern.startswith("*.") and name.endswith(pattern[1:]))
        for pattern in patterns
    )


def origin_is_allowed(origin: str | None, host: str | None, also: Sequence[str], any_origin: bool) -> bool:
    """Return whether an Origin header belongs to a page of this server.

    Args:
        origin: the header's value; None if it is missing, as for a plain GET from a page of the same
            origin.
        host: the Host header's value.
        also: other names of this server, without ports: ``*.example.org`` means all subdomains.
        any_origin: whether ``server.enableCORS`` is off.
    """
    if origin is None or any_origin:
        return True
    name = host_name(origin.rstrip("/"))
    if name is None:
        return False
    return _is_same(origin, host) or _is_named(name, [other for other in also if other.strip() != "*"])


def _is_same(origin: str, host: str | None) -> bool:
    """Return whether origin and host are the same; a default port may be written out or not."""
    try:
        ours, theirs = urlsplit(f"//{host}"), urlsplit(origin)
        default = _DEFAULT_PORTS.get(theirs.scheme)
        return (ours.hostname, ours.port or default) == (theirs.hostname, theirs.port or default)
    except ValueError:  # such as a port that is not a number in range
        return False


def own_names() -> list[str]:
    """Return the names by which the settings say that browsers reach this server."""
    names = list(st.get_option("server.allowedHosts") or ())
    origins = list(st.get_option("server.corsAllowedOrigins") or ())
    address = st.get_option("browser.serverAddress") or ""
    if address != "localhost":  # Streamlit's default
        origins.append(address)
    names += filter(None, (host_name(text if "//" in text else f"//{text}") for text in origins))
    return names


def host_name(address: str) -> str | None:
    """Return the host name of an address, such as ``//demo.local:8501``, in lower case.

    Returns:
        None if it is more than a host and a port.
    """
    try:
        parts = urlsplit(address)
        parts.port  # noqa: B018  raises ValueError if it is not a number in range
    except ValueError:
        return None
    if (
        parts.username is not None
        or parts.password is not None
        or parts.path
        or parts.query
        or parts.fragment
    ):
        return None
    return parts.hostname.lower().rstrip(".") if parts.hostname else None


@functools.lru_cache(maxsize=64)  # a page that tries again and again must not fill the log
def _log_once(problem: str, host: str | None, origin: str | None) -> None:
    log.warning("Refused a request with Host %.100r and Origin %.100r. %s", host, origin, problem)


class AccessChecks:
    """Refuse requests and websockets with a foreign Host or Origin with status 403.

    Where the Origin is another name of this server, Streamlit's websocket gets the Host in its place:
    Streamlit would look up the server's public address to see whether it is that.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check the headers against the server's settings, then pass the request on."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        host, origin = headers.get("host"), headers.get("origin")
        problem = "" if scope["path"].endswith(_HEALTH) else self._problem(host, origin)
        if not problem:
            if scope["type"] == "websocket" and origin is not None and host is not None:
                scope = dict(scope)
                MutableHeaders(scope=scope)["origin"] = f"{urlsplit(origin).scheme or 'http'}://{host}"
            await self._app(scope, receive, send)
            return
        _log_once(problem, host, origin)
        if scope["type"] == "websocket":  # closed before it is accepted: the client gets status 403
            await send({"type": "websocket.close", "code": 1008, "reason": ""})
        else:
            await PlainTextResponse(problem, 403, {"X-Content-Type-Options": "nosniff"})(scope, receive, send)

    @staticmethod
    def _problem(host: str | None, origin: str | None) -> str:
        """Return why a request is refused; empty if it is not."""
        if not host_is_allowed(host, st.get_option("server.allowedHosts") or ()):
            return _WRONG_HOST
        if not origin_is_allowed(origin, host, own_names(), not st.get_option("server.enableCORS")):
            return _WRONG_ORIGIN
        return ""
