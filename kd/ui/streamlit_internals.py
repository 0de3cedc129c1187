"""The only module that uses private names of Streamlit: a fix for a defect of version 1.67.

A script run's messages wait in the server's event loop until they are sent. On a busy server a run can end
while its messages are still waiting. The next request then makes Streamlit start a new script runner, and
from then on it drops the messages of the old one: the answer to a drawing never appears, nor does the
fragment that would update it. With the fix the new runner starts once the old one's messages have been sent.

tests/integration/test_streamlit_internals.py shows whether Streamlit still has the defect.
"""

from __future__ import annotations

import functools
import logging
from typing import Any

log = logging.getLogger(__name__)


@functools.cache  # once for the process
def mend() -> None:
    """Apply the fix; log a warning if this version of Streamlit is not built as the fix expects."""
    try:
        _begin_in_turn()
    except (ImportError, AttributeError) as error:
        log.warning(
            "The fix for lost messages does not fit this version of Streamlit (%s). On a busy server an "
            "answer may not appear until the next click; install streamlit 1.67 to be safe.",
            error,
        )


def _begin_in_turn() -> None:
    from streamlit.runtime.app_session import AppSession, AppSessionState

    begin = AppSession._create_scriptrunner
    shutting_down = AppSessionState.SHUTDOWN_REQUESTED

    def begin_in_turn(session: AppSession, request: Any) -> None:
        ended = session._scriptrunner
        if ended is None:
            begin(session, request)
        else:  # it takes no more requests, and all its messages are queued
            session._event_loop.call_soon(go_on, session, ended, request)

    def go_on(session: AppSession, ended: Any, request: Any) -> None:
        now = session._scriptrunner
        if session._state == shutting_down:
            return
        if now is None or now is ended:
            session._scriptrunner = None
            begin(session, request)
        elif not now.request_rerun(
            request
        ):  # two requests came at once, and the first has started this runner
            begin_in_turn(session, request)

    AppSession._create_scriptrunner = begin_in_turn
