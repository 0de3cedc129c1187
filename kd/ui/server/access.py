"""Check Host and Origin on our own routes, because Streamlit checks them on its routes only."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

import streamlit as st
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_WRONG_HOST = "This server does not accept that host name. To allow it, add it to server.allowedHosts."
_WRONG_ORIGIN = "Pages from other sites may not use this address."


def host_is_allowed(host: str | None, allowed: Sequence[str]) -> bool:
    """Return whether a Host header names this server.

    Args:
        host: the header's value, with or without a port; None if it is missing.
        allowed: ``server.allowedHosts``: names, ``*.example.org`` for all subdomains, ``*`` for every name.
            If empty, every name is allowed.
    """
    if not allowed:
        return True
    name = _name(f"//{host}") if host else None
    if name is None:
        return False
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
        also: ``server.corsAllowedOrigins``.
        any_origin: whether ``server.enableCORS`` is off.
    """
    if origin is None or any_origin:
        return True
    return urlsplit(origin).netloc == host or origin.rstrip("/") in {other.rstrip("/") for other in also}


def _name(address: str) -> str | None:
    """Return the host name of an address in lower case; None if it has more than a host and a port."""
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


class AccessChecks:
    """Refuse requests with a foreign Host or Origin with status 403."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check the headers against the server's settings, then pass the request on."""
        headers = Headers(scope=scope)
        host, origin = headers.get("host"), headers.get("origin")
        if not host_is_allowed(host, st.get_option("server.allowedHosts") or ()):
            problem = _WRONG_HOST
        elif not origin_is_allowed(
            origin,
            host,
            st.get_option("server.corsAllowedOrigins") or (),
            not st.get_option("server.enableCORS"),
        ):
            problem = _WRONG_ORIGIN
        else:
            await self._app(scope, receive, send)
            return
        await PlainTextResponse(problem, 403)(scope, receive, send)
