"""Say which parts of the visitor's link the page ignores: parameters and values that mean nothing there."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import streamlit as st

from kd.config.base import Settings, shown
from kd.config.compress import CompressConfig
from kd.config.distil import DistilConfig
from kd.config.search import SearchConfig
from kd.config.sweep import SweepConfig
from kd.config.teacher import TeacherConfig
from kd.lab.settings import LabSettings
from kd.sweeps.sweep_summary import MEASURES
from kd.ui.shell import session_keys, url_state
from kd.ui.shell.escape import plain


def _settings(*classes: type[Settings]) -> dict[str, tuple[str, ...]]:
    return {spec.name: () for cls in classes for spec in dataclasses.fields(cls)}


#: Page -> parameter -> its values; none if the settings themselves check it.
_OWN: dict[str, Mapping[str, tuple[str, ...]]] = {
    "": _settings(DistilConfig, TeacherConfig) | {"mode": ("distil", "teacher")},
    "dark_knowledge": _settings(LabSettings) | {"drawn": ()},
    "sweep": _settings(SweepConfig, SearchConfig)
    | {"way": ("sweep", "search", "grid"), "shows": tuple(MEASURES), "gain": ()},
    "compress": _settings(CompressConfig),
}
#: Of all pages: links that are made for spectators hold the session's run, whatever the page.
_EVERYWHERE = {"run": (), url_state.REPLAY: (), url_state.PRESENT: ("1",)}


def ignored(page: str, query: Mapping[str, str]) -> str:
    """Return a sentence about the link's parameters that a page ignores; empty if there are none.

    Args:
        page: the page's part of the address; empty for the first page.
        query: the link's parameters.
    """
    known = _EVERYWHERE | _OWN.get(page, {})
    sentences = []
    if unknown := [shown(name) for name in query if name not in known]:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        sentences.append(f"This page has no setting called {', '.join(unknown[:3])}{more}.")
    sentences += [
        f"The link's {name} must be one of {', '.join(known[name])}, not {shown(value)}."
        for name, value in query.items()
        if known.get(name) and value not in known[name]
    ]
    if sentences:
        sentences.append("That part of the link was ignored.")
    return " ".join(sentences)


def warn(page: str) -> None:
    """Show what the page with which this session began ignored of its link, until another page is opened."""
    begun = st.session_state.setdefault(session_keys.LINK, (page, ignored(page, st.query_params.to_dict())))
    if begun[0] == page and begun[1]:
        st.warning(plain(begun[1]))
    elif begun[0] != page:
        st.session_state[session_keys.LINK] = (page, "")
