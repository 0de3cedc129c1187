"""The page's address: which parameters it has, and what a page writes there."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode, urlsplit, urlunsplit

import streamlit as st

from kd.ui.shell import session_keys

PRESENT = "present"  # presenter mode, whatever the page
REPLAY = "replay"  # the stored run that is played back


def presenting() -> bool:
    """Return whether this session is in presenter mode, set first by its link, then by its buttons."""
    return st.session_state.setdefault(session_keys.PRESENT, st.query_params.get(PRESENT) == "1")


def own() -> dict[str, str]:
    """Return the parameters that belong to the page itself."""
    return {name: value for name, value in st.query_params.to_dict().items() if name not in (PRESENT, REPLAY)}


def mode() -> dict[str, str]:
    """Return the parameters that stay when the page changes."""
    return {PRESENT: "1"} if presenting() else {}


def write(query: Mapping[str, str]) -> None:
    """Put all of a page's settings into the address."""
    query = mode() | query
    if st.query_params.to_dict() != query:
        st.query_params.from_dict(query)


def keep_mode() -> None:
    """Keep presenter mode in the address of a page that has no settings of its own."""
    if (st.query_params.get(PRESENT) == "1") != presenting():
        st.query_params.from_dict(
            mode() | {name: value for name, value in st.query_params.to_dict().items() if name != PRESENT}
        )


def to_watch(first_page: bool) -> str:
    """Return the address for spectators, as this browser sees it; empty if it has not reported one.

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
