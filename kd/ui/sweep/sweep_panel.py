"""A sweep over a grid of settings: started, followed, and inspected cell by cell."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from kd.errors import UserError
from kd.jobs.snapshot import Snapshot
from kd.sweeps import sweep, sweep_store
from kd.ui.run.run_view import RunView
from kd.ui.shell import notices, session_keys, url_state
from kd.ui.shell.escape import plain
from kd.ui.sweep import axes, heat_map

VIEW = RunView(session_keys.GRID_RUN, "grid", lambda kind: kind.name == "sweep", "a sweep")


def show(query: Mapping[str, str]) -> None:
    """Draw the whole panel; ``query`` holds the link's parameters for it."""
    st.markdown(
        "Which temperature? Small students train **together**, as one batched computation on the same "
        "batches, each with its own temperature and soft weight, in a fraction of the time that they would "
        "take one after the other. Each is compared with its **control**, an identical network that learns "
        "from the labels alone."
    )
    if axes.FORM.restore(query):
        VIEW.keep_settings(query.get("run"))
    snap = VIEW.find()
    if VIEW.brings_settings(snap):
        axes.FORM.adopt(snap.config.replace(continues=""))
    with st.container():
        notices.show()
    config = axes.settings()
    estimate = st.container()  # filled in last, because it takes a moment
    stopped = (
        snap is not None
        and snap.state == "stopped"
        and snap.saved
        and len(snap.measures["cells"]) < snap.config.count
    )
    VIEW.buttons(
        config,
        snap,
        snap.config.replace(continues=snap.id) if stopped else None,
        "Finished cells are stored, and the sweep can be resumed from them.",
    )
    _sweep(snap) if snap is not None else _measured_before()
    run = st.session_state.get(session_keys.GRID_RUN)
    url_state.write(axes.FORM.query() | ({"run": run} if run else {}) | heat_map.link())
    with estimate:
        if config is not None:
            axes.forecast(config)


def _sweep(snap: Snapshot) -> None:
    open_cells = heat_map.held(snap)
    heat_map.open_clicked(snap, open_cells)

    def draw(now: Snapshot) -> None:
        cells, under_way = sweep.read(now.config, now.rows)
        heat_map.heat(now.config, cells, under_way if now.active else {}, how, "grid_heat")

    VIEW.head(snap)
    how = heat_map.view(snap.config)
    VIEW.follow(snap, draw, changed=lambda: st.session_state.pop(session_keys.GRID_NEWS, False))
    st.caption(heat_map.what_a_click_does(snap, open_cells))
    cells = sweep.read(snap.config, snap.rows)[0]
    heat_map.result(snap.config, cells)
    heat_map.picked(snap.config, cells, snap, open_cells)


def _measured_before() -> None:
    """Show stored sweeps from the command line, until the visitor starts one."""
    try:
        measured = sweep_store.load()
    except UserError as error:
        st.error(plain(error))
        return
    if not measured:
        return
    st.subheader("Measured earlier", anchor=False)
    names = [stored["student"] for stored in measured]
    name = (
        st.segmented_control("Student", names, default=names[0], required=True, key="grid_stored")
        if len(names) > 1
        else names[0]
    )
    stored = next(stored for stored in measured if stored["student"] == name)
    how = heat_map.view(stored["config"])
    st.caption(f"The paper's claim: {stored['claim']}")
    heat_map.heat(stored["config"], stored["cells"], {}, how, "grid_stored_heat")
    st.session_state.pop(session_keys.GRID_OPEN, None)  # shipped results have no networks
    if st.session_state.pop(session_keys.GRID_NEWS, False):
        st.rerun()
    heat_map.result(stored["config"], stored["cells"])
    st.markdown(stored["summary"])
    heat_map.picked(stored["config"], stored["cells"])
    st.caption(
        f"Until you start a sweep of your own, this is the result of `{stored['command']}` "
        f"({stored['machine']})."
    )
