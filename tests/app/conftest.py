"""Fixtures for the app in Streamlit's test harness."""

from __future__ import annotations

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from kd import paths
from kd.data import sources
from kd.ui.shell import session_keys, shared
from tests.apps import APP, TOKEN


@pytest.fixture
def app(monkeypatch, tmp_path, mnist):
    """Return a function that opens the app at a page, on a small MNIST. The worker is stopped afterwards."""
    monkeypatch.setenv("KD_HOME", str(tmp_path / "runs"))

    class Small(sources.Source):
        def __init__(self):
            super().__init__(tmp_path / "nothing", command=lambda folder: ["false"])
            self.wait()
            self._mnist = mnist

    st.cache_resource.clear()
    st.cache_data.clear()
    monkeypatch.setattr(sources, "Source", Small)

    def open_at(page: str | None = None, **query: str) -> AppTest:
        at = AppTest.from_file(APP, default_timeout=60)
        at.session_state[session_keys.OWNER] = TOKEN
        if page:
            at.switch_page(str(paths.page(page)))
        for name, value in query.items():
            at.query_params[name] = value
        return at.run()

    yield open_at
    shared.manager().close()
    st.cache_resource.clear()
