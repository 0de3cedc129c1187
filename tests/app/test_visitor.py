"""The visitor's token: from the cookie; without one, for the session alone, which the page says."""

import secrets

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from kd.ui.shell import session_keys
from tests.apps import APP, said

pytestmark = pytest.mark.app
WARNING = "This browser keeps no cookies for this app here"


def visit(monkeypatch: pytest.MonkeyPatch, cookies: str | None) -> AppTest:
    """Open the first page in a browser that sends these cookies."""
    headers = {} if cookies is None else {"Cookie": cookies}
    monkeypatch.setattr(type(st.context), "headers", headers)
    return AppTest.from_file(APP, default_timeout=60).run()


def test_token_comes_from_the_cookie(app, monkeypatch):
    token = secrets.token_urlsafe(24)
    at = visit(monkeypatch, f"a=b; kd_owner={token}")
    assert not at.exception and at.session_state[session_keys.OWNER] == token
    assert WARNING not in said(at)


@pytest.mark.parametrize("cookies", [None, "", "a=b", "kd_owner=short"])
def test_visitor_without_a_cookie_is_warned_before_start(app, monkeypatch, cookies):
    at = visit(monkeypatch, cookies)
    assert not at.exception and WARNING in said(at)
    assert "before you press Start. Watching and drawing work." in said(at)
    assert not at.button(key="start").disabled and len(at.session_state[session_keys.OWNER]) >= 32
    at.button(key="stage_begin").click().run()
    assert WARNING in said(at), "as long as it is so"
