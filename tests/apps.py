"""Helpers for tests of the app in Streamlit's harness."""

from __future__ import annotations

import secrets

from streamlit.testing.v1 import AppTest

from kd import paths
from kd.ui.shell import shared
from tests.helpers import wait_until

# The main script that app.py serves. In Streamlit's harness, app.py itself shows an
# empty page, without an error.
APP = str(paths.MAIN_SCRIPT)
TOKEN = secrets.token_urlsafe(24)


def query(at: AppTest) -> dict[str, str]:
    """Return the link's parameters."""
    return {name: value[0] if isinstance(value, list) else value for name, value in at.query_params.items()}


def said(at: AppTest) -> str:
    return " ".join(
        element.value for kind in (at.error, at.warning, at.info, at.markdown, at.caption) for element in kind
    )


def ended(at: AppTest, slot: str, seconds: float = 30.0) -> str:
    """Wait until the run in the session's ``slot`` has ended and return its id."""
    id = at.session_state[slot]
    wait_until(lambda: not shared.manager().snapshot(id, TOKEN).active, seconds=seconds)
    return id
