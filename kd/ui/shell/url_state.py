"""The page's address: which parameters it has, and what a page writes there.

A session reads the address when it opens a page for the first time. Afterwards the widgets decide, and the
address follows them without new entries in the browser's history (kd/ui/frontend/address.js): otherwise
Back would step through addresses that the widgets do not follow.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from urllib.parse import urlencode, urlsplit, urlunsplit

import streamlit as st

from kd.ui import frontend
from kd.ui.shell import session_keys

_address = st.components.v2.component("kd_address", js=frontend.script("address.js"))

COMPONENT = "kd_address"  # its key
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
    _put(mode() | query)


def keep_mode() -> None:
    """Keep presenter mode in the address of a page that has no settings of its own."""
    _put(mode() | {name: value for name, value in st.query_params.to_dict().items() if name != PRESENT})


def _put(query: dict[str, str]) -> None:
    """Show ``query`` in the address, and tell Streamlit's client, which sends it with the next run.

    On a session's first run the client does not know yet that it must not add an entry to the history; the
    component alone then changes the address.
    """
    st.session_state[session_keys.ADDRESS] = query
    if session_keys.ADDRESS_COUNT in st.session_state and st.query_params.to_dict() != query:
        st.query_params.from_dict(query)


def show() -> None:
    """Let the browser show the address that was last put. Call it at the end of each run."""
    session, count = st.session_state.get(session_keys.ADDRESS_COUNT, (secrets.token_hex(8), 0))
    st.session_state[session_keys.ADDRESS_COUNT] = (session, count + 1)
    query = urlencode(st.session_state.get(session_keys.ADDRESS, {}))
    _address(data={"query": query, "session": session, "count": count}, key=COMPONENT, height=1)


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
