"""What a script run has said arrives, though the next begins at once: a defect of Streamlit 1.67, mended.

What a run says waits in the server's event loop. Where the run has ended while its messages still wait there, as on
a busy server, a fragment that repeats itself makes Streamlit begin another runner, and from then on it drops what
comes from the one before. So the answer to a drawing never appeared, nor what would have repeated it. Here the next
runner begins when the messages of the one that has ended are through. A rerun of the whole page still replaces a run
at once, as it should: it shows everything anew.
"""

from __future__ import annotations

import contextlib
import functools
from typing import Any


@functools.cache  # once for the process
def mend() -> None:
    with contextlib.suppress(ImportError, AttributeError):  # another Streamlit; tests/unit/test_delivery.py tells whether it has the defect
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
                ended.followed_by = session._scriptrunner
            elif now is getattr(ended, "followed_by", None):  # two requests came at once
                if not now.request_rerun(request):
                    begin_in_turn(session, request)
            # Else the whole page has been asked for meanwhile: it shows this too, and with newer inputs.

        AppSession._create_scriptrunner = begin_in_turn
