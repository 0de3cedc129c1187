"""The Sweep page: a sweep over a grid, or a search."""

from __future__ import annotations

import streamlit as st

from kd import paths
from kd.config import kinds
from kd.config.base import Settings
from kd.errors import UserError
from kd.ui.run import snapshots
from kd.ui.shell import session_keys
from kd.ui.sweep import search_panel, sweep_panel

#: Kind of run -> its panel.
WAYS = {"sweep": sweep_panel, "search": search_panel}


def way() -> str:
    """Return the panel to show: the chosen one, initially from the link or the kind of its run."""
    if session_keys.WAY not in st.session_state:
        run, name = st.query_params.get("run"), st.query_params.get("way")
        if name not in WAYS:
            try:
                snap = snapshots.find(run)
                name = snap.kind if snap is not None and snap.kind in WAYS else "sweep"
            except UserError:  # shown where the run would be
                name = "sweep"
        st.session_state[session_keys.WAY] = name
        st.session_state.setdefault(WAYS[name].VIEW.slot, run)
    for panel in WAYS.values():  # otherwise both would take the link's run
        st.session_state.setdefault(panel.VIEW.slot, None)
    return st.session_state[session_keys.WAY]


def switch() -> None:
    st.session_state[session_keys.WAY] = st.session_state[session_keys.WAY_WIDGET] or "sweep"


def open_run(id: str, config: Settings) -> None:
    """Go to this page and show a run of one of WAYS."""
    kind = kinds.of(config).name
    st.session_state[session_keys.WAY] = kind
    st.session_state[WAYS[kind].VIEW.slot] = id
    st.switch_page(paths.page("sweep"))


def show() -> None:
    """Draw the whole page."""
    st.title("Sweep: every temperature at once", anchor=False)
    shown, query = way(), st.query_params.to_dict()
    st.session_state[session_keys.WAY_WIDGET] = shown
    st.segmented_control(
        "How",
        list(WAYS),
        key=session_keys.WAY_WIDGET,
        on_change=switch,
        required=True,
        format_func={"sweep": "Grid", "search": "Search"}.get,
        label_visibility="collapsed",
        help="A grid tries every combination; a search proposes the next settings from the results so far.",
    )
    # A link's settings belong to the panel that it names; older links may say "grid".
    named = query.get("way", "sweep").replace("grid", "sweep")
    WAYS[shown].show(query if named == shown else {})
