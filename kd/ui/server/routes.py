"""Our own routes, all below ``/kd/``: requests that do not run a page's script.

Streamlit does not apply ``server.baseUrlPath`` to them, so that is done here; Host and Origin are checked by
the middleware (kd/ui/server/access.py). Handlers that wait for a lock or compute are plain functions, which
Starlette calls in a thread: an ``async def`` would block every websocket.
"""

from __future__ import annotations

import streamlit as st
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route

from kd.ui.server import answers, assets, feed


def unknown(request: Request) -> Response:
    """Answer any other address below ``/kd/`` with 404; Streamlit would return its HTML page."""
    return PlainTextResponse("There is nothing at this address.", 404)


def routes(base: str | None = None) -> list[Mount]:
    """Return the routes for ``st.App``.

    Args:
        base: the path that the whole app is served below; by default the setting ``server.baseUrlPath``.
    """
    if base is None:
        base = st.get_option("server.baseUrlPath") or ""
    prefix = f"/{base.strip('/')}" if base.strip("/") else ""
    return [
        Mount(
            f"{prefix}/kd",
            routes=[
                Route("/assets/{name}", assets.serve),
                Route("/feed/{run_id}", feed.serve),
                Route("/answers/{run_id}", answers.serve),
                Route("/{rest:path}", unknown),
            ],
        )
    ]
