"""Sentences that are shown once, after the next rerun."""

from __future__ import annotations

import streamlit as st

from kd.ui.shell import session_keys
from kd.ui.shell.escape import plain


def notify(kind: str, sentence: str) -> None:
    """Keep a sentence to be shown once, unformatted, after the next rerun.

    Args:
        kind: "error", "warning", "success" or "info".
    """
    st.session_state[session_keys.NOTICE] = (kind, sentence)


def show() -> None:
    if notice := st.session_state.pop(session_keys.NOTICE, None):
        kind, sentence = notice
        getattr(st, kind)(plain(sentence))
