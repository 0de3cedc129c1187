"""The Runs page: all stored and interrupted runs in a table, and one of them in detail."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from kd import paths
from kd.store import checkpoints, runs
from kd.ui.runs import details, import_panel, names, replaying, storage_panel, table
from kd.ui.shell import notices, url_state, visitor
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
    if not stored and not unfinished:
        _nothing_yet()
        return
    mine = [kept for kept in unfinished if kept.owner == visitor.digest()]
    others = [kept for kept in unfinished if kept.owner != visitor.digest()]
    table.show(stored, mine, others)
    chosen = _choice(stored, mine, others)
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


def _choice(
    stored: Sequence[runs.Run],
    mine: Sequence[checkpoints.Checkpoint],
    others: Sequence[checkpoints.Checkpoint],
) -> str:
    """Draw the choice of a run, in the order of the table; return its id."""
    first, last = (
        {
            kept.id: f"{kept.about.default_name(kept.config)} ({table.when(kept.saved)}, interrupted)"
            for kept in unfinished
        }
        for unfinished in (mine, others)
    )
    finished = {run.id: f"{run.name} ({table.when(run.created)})" for run in stored}
    titles = names.distinct(first | finished | last)
    chosen = st.selectbox("Run", list(titles), format_func=titles.get, key="run_choice")
    return chosen if chosen in titles else next(iter(titles))
