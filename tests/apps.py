"""Helpers for tests of the app in Streamlit's harness."""

from __future__ import annotations

import json
import secrets
from urllib.parse import parse_qsl

from streamlit.testing.v1 import AppTest

from kd import paths
from kd.ui.shell import shared, url_state
from tests.helpers import wait_until

# The main script that app.py serves. In Streamlit's harness, app.py itself shows an
# empty page, without an error.
APP = str(paths.MAIN_SCRIPT)
TOKEN = secrets.token_urlsafe(24)


def query(at: AppTest) -> dict[str, str]:
    """Return the parameters of the address that the browser shows."""
    (shown,) = (found for found in at.get("bidi_component") if found.key == url_state.COMPONENT)
    return dict(parse_qsl(json.loads(shown.proto.json)["query"], keep_blank_values=True))


def said(at: AppTest) -> str:
    return " ".join(
        element.value for kind in (at.error, at.warning, at.info, at.markdown, at.caption) for element in kind
    )


def ended(at: AppTest, slot: str, seconds: float = 30.0) -> str:
    """Wait until the run in the session's ``slot`` has ended and return its id."""
    id = at.session_state[slot]
    wait_until(lambda: not shared.manager().snapshot(id, TOKEN).active, seconds=seconds)
    return id
