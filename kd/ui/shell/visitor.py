"""The visitor of this browser: a random token in a cookie, never in the URL."""

from __future__ import annotations

import secrets

import streamlit as st

from kd.store import runs
from kd.ui.server import owner_cookie
from kd.ui.shell import session_keys


def token() -> str:
    """Return this browser's token, once remember() has run in this session."""
    return st.session_state[session_keys.OWNER]


def digest() -> str:
    """Return the digest of the token, for places where the token itself must not appear."""
    return runs.owner_digest(token())


def remember() -> None:
    """Take this browser's token from its cookie; without one, make a token for this session alone."""
    if session_keys.OWNER not in st.session_state:
        kept = owner_cookie.token_in(st.context.headers.get("Cookie", ""))
        st.session_state[session_keys.OWNER] = kept or secrets.token_urlsafe(24)
        st.session_state[session_keys.FORGOTTEN] = kept is None


def forgotten() -> bool:
    """Return whether this browser keeps no cookie here, so that its token is lost with the session."""
    return st.session_state.get(session_keys.FORGOTTEN, False)


def warn() -> None:
    """Say what does not work where the browser keeps no cookie; show nothing if it does."""
    if not forgotten():
        return
    with st.container(key="kd_no_cookie"):
        st.warning(
            "This browser keeps no cookies for this app here, as in a frame of another site's page. Uploads "
            "are refused, and after a reload you cannot pause or stop a run that you start. Open the app in "
            "its own tab, with cookies allowed, before you press Start. Watching and drawing work.",
            icon=":material/cookie_off:",
        )
        if st.context.url:
            st.link_button(
                "Open in its own tab", st.context.url, type="tertiary", icon=":material/open_in_new:"
            )
