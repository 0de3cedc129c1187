"""The QR code by which an audience joins, in a dialog that the browser opens and closes by itself."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import segno
import streamlit as st

from kd.ui import frontend

_button = st.components.v2.component(
    "kd_join",
    html=frontend.read("join.html"),
    css=frontend.read("stage_button.css") + frontend.read("join.css"),
    js=frontend.script("join.js"),
)
_UNKNOWN = "This browser has not reported its address; copy it from the address bar."


def button(key: str, address: str, warning: str, keys: Sequence[str]) -> None:
    """Draw the button that shows the QR code of ``address``, and the address as text.

    Args:
        key: its shortcut.
        address: what spectators open; empty if this browser has not reported it.
        warning: why phones cannot open the address; empty if they can.
        keys: the page's other shortcuts; one that is pressed before its button is there is not lost.
    """
    _button(
        data={
            "key": key,
            "keys": list(keys),
            "code": _code(address) if address else "",
            "address": address,
            "warning": warning if address else _UNKNOWN,
        },
        key="join",
        width="content",
    )


@functools.lru_cache(maxsize=64)
def _code(address: str) -> str:
    return segno.make(address, error="m").svg_data_uri(border=3, light="white", scale=8)
