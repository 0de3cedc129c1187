"""The visitor of this browser: a random token in a cookie, never in the URL."""

from __future__ import annotations

import re
import secrets

import streamlit as st

from kd.store import runs
from kd.ui import frontend
from kd.ui.shell import session_keys

COOKIE = "kd_owner"
_TOKEN = re.compile(r"[A-Za-z0-9_-]{32,64}")

_cookie = st.components.v2.component("kd_owner_cookie", js=frontend.script("owner_cookie.js"))


def token() -> str:
    """Return this browser's token, once remember() has run in this session."""
    return st.session_state[session_keys.OWNER]


def digest() -> str:
    """Return the digest of the token, for places where the token itself must not appear."""
    return runs.owner_digest(token())


def remember() -> None:
    """Find or create this browser's token, and store it in the browser."""
    if session_keys.OWNER not in st.session_state:
        kept = st.context.cookies.get(COOKIE, "")
        st.session_state[session_keys.OWNER] = kept if _TOKEN.fullmatch(kept) else secrets.token_urlsafe(24)
    result = _cookie(
        data={"cookie": COOKIE, "proposed": token()},
        key=session_keys.OWNER_COMPONENT,
        on_token_change=lambda: None,
        height=1,
    )
    reported = result.get("token")
    if isinstance(reported, str) and _TOKEN.fullmatch(reported) and reported != token():
        st.session_state[session_keys.OWNER] = reported
        st.rerun()
