"""ASGI middleware around Streamlit's server."""

from __future__ import annotations

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kd.ui.server.access import AccessChecks
from kd.ui.server.first_paint import FirstPaint
from kd.ui.server.owner_cookie import OwnerCookie


class QuietDisconnects:
    """Drop messages to a client whose websocket is gone, instead of raising an error.

    When a client disconnects during a send, Starlette closes its side of the websocket. Streamlit, which is
    waiting for a message at that time, then reports a text frame that nobody sent and logs a traceback. This
    middleware ignores the failed send, and Streamlit ends the session when it receives the disconnect message
    that follows.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on, except messages that are sent after a disconnect."""
        if scope["type"] != "websocket":
            await self._app(scope, receive, send)
            return
        gone = False

        async def receive_and_note() -> Message:
            nonlocal gone
            message = await receive()
            gone = gone or message["type"] == "websocket.disconnect"
            return message

        async def send_unless_gone(message: Message) -> None:
            nonlocal gone
            if gone:
                return
            try:
                await send(message)
            except OSError:  # also uvicorn's ClientDisconnected
                gone = True

        await self._app(scope, receive_and_note, send_unless_gone)


def middleware() -> list[Middleware]:
    """Return the middleware for ``st.App``, outermost first."""
    return [Middleware(one) for one in (AccessChecks, QuietDisconnects, OwnerCookie, FirstPaint)]
