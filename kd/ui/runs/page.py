"""The Runs page: all stored and interrupted runs in a table, and one of them in detail."""

from __future__ import annotations

from collections.abc import Container, Sequence

import streamlit as st

from kd import paths
from kd.store import checkpoints, runs
from kd.ui.run import names, replaying
from kd.ui.runs import details, import_panel, storage_panel, table
from kd.ui.shell import notices, session_keys, shared, url_state, visitor
from kd.ui.shell.escape import plain


def show() -> None:
    """Draw the whole page."""
    st.title("Runs", anchor=False)
    notices.show()
    stored, problems = runs.list_runs()
    unfinished, more_problems = checkpoints.list_interrupted()
    for problem in problems + more_problems:
        st.warning(plain(problem))
    import_panel.show()
    storage_panel.show(stored)
    linked = _linked({run.id for run in stored} | {kept.id for kept in unfinished})
    if not stored and not unfinished:
        _nothing_yet()
        return
    mine = [kept for kept in unfinished if kept.owner == visitor.digest()]
    others = [kept for kept in unfinished if kept.owner != visitor.digest()]
    table.show(stored, mine, others)
    chosen = _choice(stored, mine, others, linked)
    for kept in unfinished:
        if kept.id == chosen:
            details.show_interrupted(kept)
            return
    details.show_stored(next(run for run in stored if run.id == chosen))


def _nothing_yet() -> None:
    st.info(
        "No runs are stored yet. Each run that finishes or is stopped on the **Distil** page appears here, "
        "and so do those of `python -m kd distil`."
    )
    st.page_link(paths.page("distil"), label="Distil a student", icon=":material/school:")
    if st.button(
        "Watch a recorded run",
        key="replay_recorded",
        type="tertiary",
        icon=":material/history:",
        help="Plays back a recorded training that comes with the app. Nothing is trained.",
    ):
        if replaying.begin_last():
            st.switch_page(paths.page("distil"), query_params=url_state.mode())
        st.rerun()


def _linked(shown: Container[str]) -> str | None:
    """Return the id of the run that the link names; if it is not here, say why and return None."""
    id = st.query_params.get("run")
    if id is None or id in shown:
        return id
    if not runs.is_id(id):
        st.error("The link's run is not a valid run id. Choose a run below.")
    elif (live := shared.manager().snapshot(id, counts=False)) is not None and live.active:
        st.info("The link's run is not finished yet. It will appear here when it has ended.")
        if st.button("Watch it", key="watch_linked", icon=":material/visibility:"):
            details.open_run(id, live.config)
    else:
        st.error("The link's run is not stored here: it was deleted, or the link was cut short.")
    return None


def _choice(
    stored: Sequence[runs.Run],
    mine: Sequence[checkpoints.Checkpoint],
    others: Sequence[checkpoints.Checkpoint],
    linked: str | None,
) -> str:
    """Draw the choice of a run, at first the link's, in the order of the table; return its id."""
    first, last = (
        {
            kept.id: f"{kept.about.default_name(kept.config)} ({table.when(kept.saved)}, interrupted)"
            for kept in unfinished
        }
        for unfinished in (mine, others)
    )
    finished = {run.id: f"{run.name} ({table.when(run.created)})" for run in stored}
    titles = names.distinct(first | finished | last)
    if linked and session_keys.RUN_CHOICE not in st.session_state:
        st.session_state[session_keys.RUN_CHOICE] = linked
    chosen = st.selectbox("Run", list(titles), format_func=titles.get, key=session_keys.RUN_CHOICE)
    return chosen if chosen in titles else next(iter(titles))
