"""The visitor of this browser: a random token in a cookie, never in the URL."""

from __future__ import annotations

import re
import secrets

import streamlit as st

from kd.store import runs
from kd.ui.shell import session_keys

COOKIE = "kd_owner"
_TOKEN = re.compile(r"[A-Za-z0-9_-]{32,64}")

# The server proposes a token; a browser that has one already keeps its own and reports it.
_JS = """
export default function ({ data, setStateValue }) {
  const kept = document.cookie.split("; ").find((part) => part.startsWith(data.cookie + "="))
  const token = kept ? kept.split("=")[1] : data.proposed
  document.cookie = `${data.cookie}=${token}; path=/; max-age=31536000; SameSite=Strict`
  if (token !== data.proposed) setStateValue("token", token)
}
"""
_cookie = st.components.v2.component("kd_owner_cookie", js=_JS)


def token() -> str:
    """Return this browser's token, once remember() has run in this session."""
    return st.session_state[session_keys.OWNER]


def digest() -> str:
    """Return the digest of the token, for where the token itself must not be."""
    return runs.owner_digest(token())


def remember() -> None:
    """Find or make this browser's token, and let the browser keep it."""
    if session_keys.OWNER not in st.session_state:
        kept = st.context.cookies.get(COOKIE, "")
        st.session_state[session_keys.OWNER] = kept if _TOKEN.fullmatch(kept) else secrets.token_urlsafe(24)
    result = _cookie(
        data={"cookie": COOKIE, "proposed": token()},
        key=session_keys.OWNER_COMPONENT,
        on_token_change=lambda: None,
        height=1,
    )
    told = result.get("token")
    if isinstance(told, str) and _TOKEN.fullmatch(told) and told != token():
        st.session_state[session_keys.OWNER] = told
        st.rerun()
