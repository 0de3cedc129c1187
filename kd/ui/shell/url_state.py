"""The page's address: what is in it, and what a page puts there."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode, urlsplit, urlunsplit

import streamlit as st

from kd.ui.shell import session_keys

PRESENT = "present"  # presenter mode, whatever the page
REPLAY = "replay"  # the stored run that is played back


def presenting() -> bool:
    """Whether this session is in presenter mode: by its link at first, then by its buttons."""
    return st.session_state.setdefault(session_keys.PRESENT, st.query_params.get(PRESENT) == "1")


def own() -> dict[str, str]:
    """The parameters that are the page's own."""
    return {name: value for name, value in st.query_params.to_dict().items() if name not in (PRESENT, REPLAY)}


def mode() -> dict[str, str]:
    """The parameters that stay when the page changes."""
    return {PRESENT: "1"} if presenting() else {}


def write(query: Mapping[str, str]) -> None:
    """Puts a page's whole setting into the address."""
    query = mode() | query
    if st.query_params.to_dict() != query:
        st.query_params.from_dict(query)


def keep_mode() -> None:
    """Sees that the address of a page that has no settings of its own tells the mode too."""
    if (st.query_params.get(PRESENT) == "1") != presenting():
        st.query_params.from_dict(
            mode() | {name: value for name, value in st.query_params.to_dict().items() if name != PRESENT}
        )


def to_watch(first_page: bool) -> str:
    """The address, as this browser sees it, for those who watch; empty where the browser has not told it.

    On the first page a run's id is enough: its settings come with it.
    """
    if not st.context.url:
        return ""
    run, replay = st.session_state.get(session_keys.RUN), st.session_state.get(session_keys.REPLAY)
    if first_page and (replay or run):
        query = {REPLAY: replay} if replay else {"run": run}
    else:
        query = own() | ({"run": run} if run else {})
    address = urlsplit(st.context.url)
    return urlunsplit(address._replace(path=address.path or "/", query=urlencode(query)))
