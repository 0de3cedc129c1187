"""Two defects of Streamlit 1.67, mended; tests/unit/test_delivery.py tells whether it still has them.

What a script run has said arrives, though the next begins at once. It waits in the server's event loop; where the run has
ended while its messages still wait there, as on a busy server, the next request makes Streamlit begin another runner, and
from then on it drops what comes from the one before. So the answer to a drawing never appeared, nor what would have
repeated it. Here the next runner begins when the messages of the one that has ended are through.

Who leaves while they are sent something is gone. Streamlit takes it for text, which it does not understand, and fails.
"""

from __future__ import annotations

import contextlib
import functools
from typing import Any


@functools.cache  # once for the process
def mend() -> None:
    with contextlib.suppress(ImportError, AttributeError):  # another Streamlit
        _begin_in_turn()
    with contextlib.suppress(ImportError, AttributeError):
        _leave_quietly()


def _begin_in_turn() -> None:
    from streamlit.runtime.app_session import AppSession, AppSessionState

    begin = AppSession._create_scriptrunner

    def begin_in_turn(session: AppSession, request: Any) -> None:
        ended = session._scriptrunner
        if ended is None:
            begin(session, request)
        else:  # it takes no request any more: all that it says is on its way
            session._event_loop.call_soon(go_on, session, ended, request)

    def go_on(session: AppSession, ended: Any, request: Any) -> None:
        now = session._scriptrunner
        if session._state == AppSessionState.SHUTDOWN_REQUESTED:
            return
        if now is None or now is ended:
            session._scriptrunner = None
            begin(session, request)
        elif not now.request_rerun(request):  # two requests came at once, and the first has begun it
            begin_in_turn(session, request)

    AppSession._create_scriptrunner = begin_in_turn


def _leave_quietly() -> None:
    from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

    receive = WebSocket.receive_bytes

    async def receive_or_leave(socket: WebSocket) -> bytes:
        if socket.application_state == WebSocketState.DISCONNECTED:  # sending has found out first
            raise WebSocketDisconnect(1006)
        return await receive(socket)

    WebSocket.receive_bytes = receive_or_leave
