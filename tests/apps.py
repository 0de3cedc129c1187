"""What tests of the app in Streamlit's harness have in common."""

from __future__ import annotations

import secrets
from pathlib import Path

from streamlit.testing.v1 import AppTest

APP = str(Path(__file__).parents[1] / "app.py")
TOKEN = secrets.token_urlsafe(24)


def query(at: AppTest) -> dict[str, str]:
    """The link's parameters."""
    return {name: value[0] if isinstance(value, list) else value for name, value in at.query_params.items()}


def said(at: AppTest) -> str:
    return " ".join(element.value for kind in (at.error, at.warning, at.info, at.markdown, at.caption) for element in kind)
