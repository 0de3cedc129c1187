"""The stored runs: open, rename, delete, download, and score on your own drawings."""

import streamlit as st

from kd import paths, permissions
from kd.config import kinds
from kd.config.base import Settings
from kd.data import digits
from kd.errors import UserError
from kd.evaluation import comparison
from kd.models import inference
from kd.reports import report
from kd.store import checkpoints, drawings, runs
from kd.ui.distil import controls
from kd.ui.lab import frame
from kd.ui.runs import (
    curves,
    export_panel,
    import_panel,
    progress,
    replaying,
    results,
    snapshots,
    storage_panel,
    titles,
)
from kd.ui.runs import names as run_names
from kd.ui.shell import notices, session_keys, url_state, visitor
from kd.ui.shell.escape import plain

st.title("Runs", anchor=False)
notices.show()
found, problems = runs.list_runs()
unfinished, more_problems = checkpoints.list_interrupted()
for problem in problems + more_problems:
    st.warning(plain(problem))
import_panel.show()
storage_panel.show(found)
if not found and not unfinished:
    st.info(
        "Nothing is stored yet. Each run that finishes or is stopped on the **Distil** page appears here, and so do those of `python -m kd distil`."
    )
    st.page_link(paths.page("distil"), label="Distil a student", icon=":material/school:")
    if st.button(
        "Watch a recorded run",
        key="replay_recorded",
        type="tertiary",
        icon=":material/history:",
        help="Comes with the app: plays back as it went, and trains nothing.",
    ):
        if replaying.begin_last():
            st.switch_page(paths.page("distil"), query_params=url_state.mode())
        st.rerun()
    st.stop()

pictures, labels = drawings.load(visitor.token())


@st.cache_data(show_spinner="Scoring your drawings…", max_entries=256)
def score(run_id: str, which: str, count: int, newest: int) -> int:
    """How many of the kept drawings the model reads right."""
    return int(
        (
            inference.logits_in_chunks(
                snapshots.stored_model(run_id, which), digits.normalize(pictures)
            ).argmax(1)
            == labels
        ).sum()
    )


def when(moment: str) -> str:
    """ "2026-01-31 12:00" of an ISO 8601 moment."""
    return moment[:16].replace("T", " ")


def one_temperature(config: Settings) -> float | None:
    """Its temperature, where it has one, and not several."""
    found = config.to_dict().get("temperature")
    return found if isinstance(found, float) else None


def row(run: runs.Run) -> dict:
    measured = run.measures.get("models", {})
    test = {name: value["test_accuracy"] for name, value in measured.items()}
    line = {
        "name": run.name,
        "student": f"{run.architecture} (teacher)" if "teacher" in run.models else run.architecture,
        "method": getattr(run.config, "method", ""),
        "T": one_temperature(run.config),
        "epochs": run.config.epochs,
        "seed": getattr(run.config, "seed", None),
        "student accuracy": test.get("student"),
        "control accuracy": test.get("control"),
        "teacher accuracy": test.get("teacher"),
        "data": run.measures.get("source", ""),
        "state": run.state,
        "when": when(run.created),
        "yours": "✓" if run.owner == runs.owner_digest(visitor.token()) else "",
    }
    if len(labels) and run.models:
        try:
            line["your drawings"] = (
                " / ".join(str(score(run.id, which, len(labels), int(labels[-1]))) for which in run.models)
                + f" of {len(labels)}"
            )
        except UserError as error:
            line["your drawings"] = str(error)
    return line


def interrupted_row(kept: checkpoints.Checkpoint) -> dict:
    """The same columns, without what is measured at the end."""
    return {
        "name": kept.about.default_name(kept.config),
        "student": getattr(kept.config, "student", f"{kept.config.teacher} (teacher)"),
        "method": getattr(kept.config, "method", ""),
        "T": one_temperature(kept.config),
        "epochs": kept.config.epochs,
        "seed": getattr(kept.config, "seed", None),
        "student accuracy": None,
        "control accuracy": None,
        "teacher accuracy": None,
        "data": "",
        "state": "interrupted",
        "when": when(kept.saved),
        "yours": "✓" if kept.owner == runs.owner_digest(visitor.token()) else "",
    }


percent = st.column_config.NumberColumn(format="percent")
st.dataframe(
    [*map(interrupted_row, unfinished), *map(row, found)],
    hide_index=True,
    width="stretch",
    placeholder="",
    column_config={
        "student accuracy": percent,
        "control accuracy": percent,
        "teacher accuracy": percent,
        "your drawings": st.column_config.TextColumn(
            help="How many of your kept drawings student / control read right."
        ),
    },
)
st.caption("Accuracies are on the test set, on which nothing was chosen.")


def forget_drawings() -> None:
    try:
        drawings.forget(visitor.token())
    except UserError as error:
        notices.notify("error", str(error))


if len(labels):
    with st.popover(f"Your {len(labels)} kept drawings"):
        st.image(
            [(255 - d).numpy() for d in pictures[-30:]],
            width=48,
            caption=[str(int(label)) for label in labels[-30:]],
        )
        st.button("Forget them all", key="forget", on_click=forget_drawings)


def open_button(id: str, config: Settings, label: str = "Open") -> None:
    if st.button(
        label,
        key="open",
        type="primary",
        icon=":material/open_in_new:",
        help="Shows it on its page, with its settings.",
    ):
        kind = kinds.of(config)
        if kind.page == "compress":
            st.session_state[session_keys.COMPRESS_RUN] = id
            st.switch_page(paths.page("compress"))
        if kind.page == "sweep":
            st.session_state[session_keys.WAY] = kind.name
            st.session_state[session_keys.GRID_RUN if kind.name == "sweep" else session_keys.SEARCH_RUN] = id
            st.switch_page(paths.page("sweep"))
        if kind.page == "lab":
            frame.open_run(id, config)
            st.switch_page(paths.page("dark_knowledge"))
        controls.show_run(id)
        st.switch_page(paths.page("distil"))


def show_interrupted(kept: checkpoints.Checkpoint) -> None:
    st.header(kept.about.default_name(kept.config), anchor=False)
    try:
        snap = snapshots.find(kept.id)
    except UserError as error:  # it has just gone
        st.error(plain(error))
        return
    st.caption(titles.title(snap))
    progress.outcome(snap)
    with st.container(horizontal=True):
        mine = snap.mine and snap.state == "interrupted"
        open_button(kept.id, kept.config, "Open, to resume it" if mine else "Open")
        if mine:
            progress.discard_button(snap)
    progress.bar(snap)
    if kept.about.page == "distil":
        curves.show(snap)


names = {
    kept.id: f"{kept.about.default_name(kept.config)} ({when(kept.saved)}, interrupted)"
    for kept in unfinished
}
names = run_names.distinct(names | {run.id: f"{run.name} ({when(run.created)})" for run in found})
chosen = st.selectbox("Run", list(names), format_func=names.get, key="run_choice")
chosen = chosen if chosen in names else next(iter(names))
for kept in unfinished:
    if kept.id == chosen:
        show_interrupted(kept)
        st.stop()
run = next(run for run in found if run.id == chosen)
mine = (
    run.owner is not None
    and permissions.allowed(visitor.digest())
    and (run.owner == visitor.digest() or permissions.presenter(visitor.digest()))
)


def rename() -> None:
    try:
        runs.rename(run.id, st.session_state[f"name_{run.id}"], visitor.token())
    except UserError as error:
        notices.notify("error", str(error))


def pin() -> None:
    try:
        runs.pin(run.id, st.session_state[f"pin_{run.id}"], visitor.token())
    except UserError as error:
        notices.notify("error", str(error))


def delete() -> None:
    try:
        runs.delete(run.id, visitor.token())
        if st.session_state.get(session_keys.RUN) == run.id:
            st.session_state[session_keys.RUN] = None
        notices.notify("success", f"{run.name} was deleted.")
    except UserError as error:
        notices.notify("error", str(error))


st.header(plain(run.name), anchor=False)
try:
    snap = snapshots.find(run.id)
    st.caption(titles.title(snap))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if run.about.page:
            open_button(run.id, run.config)
        if run.about.replay and st.button(
            "Replay",
            key="begin_replay",
            icon=":material/history:",
            help="Plays it back as it went, at any speed.",
        ):
            replaying.begin(run.id, playing=True)
            st.switch_page(paths.page("distil"), query_params=url_state.mode())
        for file in [*(f"{which}.safetensors" for which in run.models), "metrics.csv", "config.json"]:
            st.download_button(
                file,
                run.file(file).read_bytes(),
                f"{run.id}-{file}",
                key=f"download_{file}",
                icon=":material/download:",
                on_click="ignore",
            )
        if run.about.page == "distil":
            # Made when it is asked for: it holds all of Plotly.
            st.download_button(
                "report.html",
                lambda: report.page(run, comparison.stored(run)),
                f"{run.id}-report.html",
                "text/html",
                key="download_report",
                icon=":material/summarize:",
                on_click="ignore",
                help="Settings, results and charts as one file that needs nothing else.",
            )
    if run.models:
        export_panel.show(run, snap)
    if mine:
        with st.container(horizontal=True, vertical_alignment="bottom"):
            st.text_input(
                "Name", run.name, max_chars=runs.NAME_LENGTH, key=f"name_{run.id}", on_change=rename
            )
            st.toggle(
                "Pinned",
                run.pinned,
                key=f"pin_{run.id}",
                on_change=pin,
                help="A pinned run is not offered for removal when the store is nearly full.",
            )
            with st.popover("Delete", icon=":material/delete:"):
                st.write(f"Delete **{plain(run.name)}** and its weights? This cannot be undone.")
                st.button("Delete it", key="delete", type="primary", on_click=delete)
    elif run.owner is None:
        st.caption(f"Made from the command line; rename or delete it in `{run.folder}`.")
    else:
        st.caption(
            "Somebody else's run: only they can rename or delete it."
            if permissions.allowed(visitor.digest())
            else "Only the presenter renames and deletes runs here."
        )
    if run.about.page == "distil":
        curves.show(snap)
    if run.about.comparable:
        results.show(snap)
except (UserError, OSError) as error:
    st.error(plain(error))
