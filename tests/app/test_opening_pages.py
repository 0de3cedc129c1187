"""A run opens on the page of its kind."""

import importlib
import sys
from types import SimpleNamespace

import pytest
import streamlit as st

from kd import paths
from kd.config import kinds
from tests.counting import COUNTING

ID = "20260131-120000-0123456789abcdef"
PAGES = {"distil": "distil", "sweep": "sweep", "lab": "dark_knowledge", "compress": "compress"}


@pytest.fixture
def open_run(app, monkeypatch):
    """Return a function that opens a run; it returns the pages that were switched to."""
    app("runs")  # registers the components
    details = importlib.import_module("kd.ui.runs.details")
    went = []
    monkeypatch.setattr(st, "switch_page", went.append)

    def opened(config):
        monkeypatch.setattr(st, "session_state", {})
        went.clear()
        details.open_run(ID, config)
        return went

    return opened


def test_run_opens_on_the_page_of_its_kind(open_run):
    for kind in kinds.KINDS.values():
        if kind.page:
            (page,) = open_run(kind.config())
            assert page == paths.page(PAGES[kind.page]) and page.exists()
            assert ID in st.session_state.values()


def test_run_of_a_new_kind_needs_only_the_name_of_its_page(open_run, monkeypatch):
    opened = []
    kind = SimpleNamespace(**vars(COUNTING) | {"page": "counting"})
    monkeypatch.setitem(kinds.KINDS, "counting", kind)
    page = SimpleNamespace(open_run=lambda id, config: opened.append((id, config)))
    monkeypatch.setitem(sys.modules, "kd.ui.counting.page", page)
    open_run(COUNTING.config(top=7))
    assert opened == [(ID, COUNTING.config(top=7))]
