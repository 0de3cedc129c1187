"""Presenter mode: large type, no menus, keys for what a talk needs, and a QR code to join."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

import streamlit as st

from kd.ui.shell import full_screen, join, session_keys, url_state

#: Key -> what it does. Pages assign the keys to their buttons with key(), so that none has two meanings.
#: Streamlit reserves C and R. Keys do nothing while somebody types into a field.
ON_DISTIL = {
    "S": "start",
    "P": "pause or resume",
    "T": "one step",
    "D": "test digit",
    "X": "clear the drawing",
}
ANYWHERE = {"L": "replay the last run", "Q": "QR code", "F": "full screen", "N": "next page"}


def key(letter: str) -> str | None:
    """Return a button's shortcut in presenter mode, otherwise None."""
    assert letter in ON_DISTIL | ANYWHERE
    return letter if url_state.presenting() else None


def _switch(on: bool) -> None:
    st.session_state[session_keys.PRESENT] = on


def offer() -> None:
    """Draw an inconspicuous button that starts presenter mode."""
    if not url_state.presenting():
        st.button(
            "Present",
            key="stage_begin",
            type="tertiary",
            icon=":material/co_present:",
            on_click=_switch,
            args=(True,),
            help="For a talk: large type, no menus, keyboard shortcuts and a QR code for the audience.",
        )


def bar(pages: Sequence[st.Page], shown: st.Page, replay_last: Callable[[], bool]) -> None:
    """Draw what a presenter needs on each page, along its lower edge.

    Args:
        replay_last: makes the first page replay the last run; returns whether there is one.
    """
    url_state.keep_mode()
    if not url_state.presenting():
        return
    following = pages[(list(pages).index(shown) + 1) % len(pages)]
    first_page = shown is pages[0]
    legend = (ON_DISTIL if first_page else {}) | ANYWHERE
    with st.container(key="kd_stage_bar", horizontal=True, vertical_alignment="center"):
        st.markdown(" · ".join(f"**{letter}** {words}" for letter, words in legend.items()))
        if (
            st.button(
                "Replay", key="stage_replay", type="tertiary", icon=":material/history:", shortcut=key("L")
            )
            and replay_last()
        ):
            st.switch_page(pages[0], query_params=url_state.mode())
        address = url_state.to_watch(first_page)
        join.button("Q", address, unreachable(address), [letter for letter in legend if letter not in "QF"])
        full_screen.button("F")
        if st.button(
            following.title,
            key="stage_next",
            type="tertiary",
            icon=":material/arrow_forward:",
            shortcut=key("N"),
        ):
            st.switch_page(following, query_params=url_state.mode())
        st.button(
            "Leave",
            key="stage_leave",
            type="tertiary",
            icon=":material/close:",
            on_click=_switch,
            args=(False,),
            help="Ends presenter mode.",
        )


def unreachable(address: str) -> str:
    """Return why phones cannot open an address and what to do; empty unless the address is local."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    try:
        alone = ipaddress.ip_address(host).is_loopback
    except ValueError:
        alone = host == "localhost" or host.endswith(".localhost")
    if not alone:
        return ""
    ours = _address_in_network()
    port = f":{parts.port}" if parts.port else ""
    there = f", probably {parts.scheme}://{ours}{port}{parts.path}" if ours else ""
    return (
        f"Phones can't open {host} – that address means 'this computer'. Start the server with `make app "
        f"ARGS=--server.address=0.0.0.0` and open the app at this machine's address in the network{there}."
    )


def _address_in_network() -> str:
    """Return this machine's address in its network, or "" if it has none. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address reserved for examples
            address = probe.getsockname()[0]
        except OSError:
            return ""
    return "" if ipaddress.ip_address(address).is_loopback else address
