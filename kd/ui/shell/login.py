"""The presenter's login, for a server that has a password."""

from __future__ import annotations

import streamlit as st

from kd import permissions
from kd.errors import UserError
from kd.ui.server import access
from kd.ui.shell import notices, visitor

_PASSWORD = "presenter_password"
_FORWARDED = ("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Proto")  # headers that proxies add


def show() -> None:
    """Say who may do what and ask for the password; show nothing if everybody may do everything."""
    if not permissions.closed():
        return
    with st.container(horizontal=True, vertical_alignment="center", key="entrance"):
        if permissions.presenter(visitor.digest()):
            st.caption(":material/co_present: You are the presenter. Visitors can only watch and draw.")
            st.button(
                "Leave",
                key="presenter_leave",
                type="tertiary",
                on_click=permissions.leave,
                args=(visitor.digest(),),
            )
            return
        st.caption(
            ":material/visibility: Only the presenter can start or delete runs here. You can watch, look "
            "around and draw."
        )
        with st.popover("I am the presenter", type="tertiary"):
            with st.form("presenter", border=False, clear_on_submit=True):
                st.text_input("Password", type="password", key=_PASSWORD, autocomplete="current-password")
                st.form_submit_button("Enter", on_click=_enter)


def _enter() -> None:
    try:
        permissions.enter(st.session_state[_PASSWORD], visitor.digest(), _address())
    except UserError as error:
        notices.notify("error", str(error))


def _address() -> str:
    """Return the visitor's network address; where a proxy does not pass it on, one name for all behind it."""
    if st.context.ip_address:
        return st.context.ip_address
    headers = st.context.headers
    forwarded = any(name in headers for name in _FORWARDED)
    here = access.host_name(f"//{headers.get('Host')}") in ("localhost", "127.0.0.1", "::1")
    return permissions.THIS_MACHINE if here and not forwarded else "behind the proxy"
