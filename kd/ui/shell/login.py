"""The presenter's login, for a server that has a password."""

from __future__ import annotations

import streamlit as st

from kd import permissions
from kd.errors import UserError
from kd.ui.shell import notices, visitor

_PASSWORD = "presenter_password"


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
        permissions.enter(st.session_state[_PASSWORD], visitor.digest(), st.context.ip_address)
    except UserError as error:
        notices.notify("error", str(error))
