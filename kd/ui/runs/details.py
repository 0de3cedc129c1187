"""One run on the Runs page: opened, replayed, downloaded, renamed, pinned and deleted."""

from __future__ import annotations

import importlib

import streamlit as st

from kd import paths, permissions
from kd.config import kinds
from kd.config.base import Settings
from kd.errors import UserError
from kd.evaluation import comparison
from kd.jobs.snapshot import Snapshot
from kd.reports import report, settings_file
from kd.store import checkpoints, runs
from kd.ui.run import curves, progress, replaying, results, snapshots, titles
from kd.ui.runs import export_panel
from kd.ui.shell import notices, session_keys, url_state, visitor
from kd.ui.shell.escape import plain


def show_interrupted(kept: checkpoints.Checkpoint) -> None:
    """Show an interrupted run, which its owner can open to resume it, or discard."""
    st.header(kept.about.default_name(kept.config), anchor=False)
    try:
        snap = snapshots.find(kept.id)
    except UserError as error:  # it was deleted just now
        st.error(plain(error))
        return
    st.caption(titles.title(snap))
    progress.outcome(snap)
    with st.container(horizontal=True):
        mine = snap.mine and snap.state == "interrupted"
        _open_button(kept.id, kept.config, "Open to resume it" if mine else "Open")
        if mine:
            progress.discard_button(snap)
    progress.bar(snap)
    if kept.about.page == "distil":
        curves.show(snap)


def show_stored(run: runs.Run) -> None:
    """Show a stored run."""
    st.header(plain(run.name), anchor=False)
    try:
        snap = snapshots.find(run.id)
        st.caption(titles.title(snap))
        with st.container(horizontal=True, vertical_alignment="bottom"):
            if run.about.page:
                _open_button(run.id, run.config)
            _replay_button(run)
            _downloads(run)
        if run.models:
            export_panel.show(run, snap)
        _owners_controls(run)
        _charts(run, snap)
    except (UserError, OSError) as error:
        st.error(plain(error))


def _charts(run: runs.Run, snap: Snapshot) -> None:
    if run.about.page == "distil":
        curves.show(snap)
    if run.about.comparable:
        results.show(snap)


def _open_button(id: str, config: Settings, label: str = "Open") -> None:
    if st.button(
        label,
        key="open",
        type="primary",
        icon=":material/open_in_new:",
        help="Opens the run with its settings, on the page for this kind of run.",
    ):
        open_run(id, config)


def open_run(id: str, config: Settings) -> None:
    """Go to the page that shows runs of this kind: kd.ui.<Kind.page>.page has a function open_run()."""
    page = importlib.import_module(f"kd.ui.{kinds.of(config).page}.page")
    page.open_run(id, config)


def _replay_button(run: runs.Run) -> None:
    if run.about.replay and st.button(
        "Replay",
        key="begin_replay",
        icon=":material/history:",
        help="Plays back the recorded training, at any speed.",
    ):
        replaying.begin(run.id, playing=True)
        st.switch_page(paths.page("distil"), query_params=url_state.mode())


def _downloads(run: runs.Run) -> None:
    for file in [*(f"{which}.safetensors" for which in run.models), "metrics.csv", "config.json"]:
        st.download_button(
            file,
            settings_file.content(run) if file == "config.json" else run.file(file).read_bytes(),
            f"{run.id}-{file}",
            key=f"download_{file}",
            icon=":material/download:",
            on_click="ignore",
        )
    if report.offered(run):
        # Built on request, because it holds all of Plotly.
        st.download_button(
            "report.html",
            lambda: report.page(run, comparison.stored(run)),
            f"{run.id}-report.html",
            "text/html",
            key="download_report",
            icon=":material/summarize:",
            on_click="ignore",
            help="Settings, results and charts in one file that needs nothing else.",
        )


def _owners_controls(run: runs.Run) -> None:
    """Draw name, pin and Delete for visitors who may use them; tell others who may."""
    if run.owner is None:
        st.caption(f"Made from the command line; rename or delete it in `$KD_HOME/{run.id}`.")
        return
    if not permissions.allowed(visitor.digest()):
        st.caption("Only the presenter can rename or delete runs here.")
        return
    if run.owner != visitor.digest() and not permissions.presenter(visitor.digest()):
        st.caption("Somebody else's run: only they can rename or delete it.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input(
            "Name",
            run.name,
            # Without max_chars, which would refuse a longer name without a word.
            key=f"name_{run.id}",
            on_change=_rename,
            args=(run,),
        )
        st.toggle(
            "Pinned",
            run.pinned,
            key=f"pin_{run.id}",
            on_change=_pin,
            args=(run,),
            help="Pinned runs are never suggested for removal when the store is nearly full.",
        )
        with st.popover("Delete", icon=":material/delete:"):
            st.write(f"Delete **{plain(run.name)}** and its weights? This cannot be undone.")
            st.button("Delete it", key="delete", type="primary", on_click=_delete, args=(run,))


def _rename(run: runs.Run) -> None:
    try:
        runs.rename(run.id, st.session_state[f"name_{run.id}"], visitor.token())
    except UserError as error:
        notices.notify("error", str(error))


def _pin(run: runs.Run) -> None:
    try:
        runs.pin(run.id, st.session_state[f"pin_{run.id}"], visitor.token())
    except UserError as error:
        notices.notify("error", str(error))


def _delete(run: runs.Run) -> None:
    try:
        runs.delete(run.id, visitor.token())
        if st.session_state.get(session_keys.RUN) == run.id:
            st.session_state[session_keys.RUN] = None
        notices.notify("success", f"{run.name} was deleted.")
    except UserError as error:
        notices.notify("error", str(error))
