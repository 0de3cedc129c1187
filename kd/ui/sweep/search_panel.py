"""A search for settings: started, followed trial by trial, and its results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from kd import paths
from kd.config.glossary import TERMS
from kd.config.search import STARTED_TRIALS, SearchConfig
from kd.errors import UserError
from kd.figures.search import history, importances
from kd.jobs.snapshot import Snapshot
from kd.models import registry
from kd.objectives import METHODS
from kd.store import runs
from kd.sweeps import search_results, sweep_time
from kd.ui.charts.chart import live_charts, packed
from kd.ui.distil import settings as distil_settings
from kd.ui.forms.form import Form
from kd.ui.run.run_view import RunView
from kd.ui.shell import notices, session_keys, shared, url_state
from kd.ui.shell.escape import plain
from kd.ui.sweep import axes

FORM = Form(SearchConfig, session_keys.SEARCH, "search_form")
VIEW = RunView(session_keys.SEARCH_RUN, "search", lambda kind: kind.name == "search", "a search")


def show(query: Mapping[str, str]) -> None:
    """Draw the whole panel; ``query`` holds the link's parameters for it."""
    st.markdown(
        "A grid tries everything. Here Optuna's sampler **proposes** the next method, temperature, soft "
        "weight and learning rate from the results so far, and stops trials that fall behind. It uses "
        "only the validation images; at the end the best setting is trained again and measured on the test "
        "set."
    )
    if FORM.restore(query):
        VIEW.keep_settings(query.get("run"))
    snap = VIEW.find()
    if VIEW.brings_settings(snap):
        FORM.adopt(snap.config)
    with st.container():
        notices.show()
    config = _settings()
    estimate = st.container()  # filled in last, because it takes a moment
    VIEW.buttons(
        config, snap, stop="Finished trials are kept. Start with the same settings to continue from them."
    )
    if snap is not None:
        VIEW.head(snap)
        VIEW.follow(snap, _live)
        if snap.measures.get("search"):
            _outcome(snap.measures["search"])
    else:
        _stored()
    run = st.session_state.get(session_keys.SEARCH_RUN)
    url_state.write({"way": "search"} | FORM.query() | ({"run": run} if run else {}))
    with estimate:
        if config is not None:
            _forecast(config)


def _settings() -> SearchConfig | None:
    left, right = st.columns(2)
    with left:
        FORM.widget(st.selectbox, "student", options=registry.students(), accept_new_options=True)
        FORM.widget(
            st.multiselect,
            "methods",
            options=list(METHODS),
            format_func=axes.method_title,
            help="The methods to choose from.",
        )
    with right:
        few, many = st.columns(2)
        with few:
            FORM.number("trials")
            FORM.number("labels")
        with many:
            FORM.number("epochs")
            FORM.number("seed")
    with st.expander("Teacher and optimizer"):
        first, second, third = st.columns(3)
        with first:
            FORM.teacher()
        with second:
            FORM.number("batch_size")
        with third:
            FORM.optimizer()
    config = FORM.config()
    try:
        if config is not None:
            config.for_visitors()
        return config
    except UserError as error:
        st.error(plain(error))
        return None


def _forecast(config: SearchConfig) -> None:
    """Say how large the search is, and estimate how long it takes at most."""
    sentence = (
        f"**Up to {axes.many(config.trials, 'trial')}** of {axes.many(config.epochs, 'epoch')}, each a "
        "student with its control; the best is trained again at the end"
    )
    manager = shared.manager()
    try:
        busy = manager.busy()
        seconds = sweep_time.trial(
            config, manager.source.mnist(), manager.teacher(config.teacher), again=not busy
        )
    except UserError as error:
        st.error(plain(error))
        return
    if seconds is None:
        st.markdown(f"{sentence}. The time is estimated once nothing else is training.")
    else:
        most = axes.duration(seconds * (config.trials + 2))
        st.markdown(
            f"{sentence}; **at most about {most}** (estimated from a short trial). It ends sooner if "
            "trials are stopped early."
        )


def _live(now: Snapshot) -> None:
    """Show the trials so far while the search runs. When it has ended, _outcome shows the result."""
    if now.measures.get("search"):
        return
    trials = search_results.read(now.config, now.rows)
    best = search_results.best(trials)
    so_far = (
        f"best validation accuracy so far {best['value']:.2%}, in trial {best['number'] + 1}"
        if best
        else "no trial has finished yet"
    )
    if now.rows and now.rows[-1]["again"]:
        doing = "All trials have ended; the best is being trained again"
    else:
        doing = "Before the first trial"
        if trials:
            settings = search_results.settings_text(trials[-1]["params"])
            doing = f"Trial {len(trials)} of {now.config.trials}: {settings}"
    st.caption(f"{doing}; {so_far}.")
    figure = history({"trials": trials, "config": {"trials": now.config.trials}})
    live_charts(
        packed({"search_live": (figure, f"Validation accuracy of each trial: {so_far}.")}),
        "search_live",
    )


def _outcome(result: Mapping[str, Any]) -> None:
    """Show the result of a search in words and charts, and a button to open its best setting."""
    st.markdown(search_results.summary(result))
    if "best" in result and st.button(
        "Open the best on the Distil page",
        key="search_open",
        icon=":material/open_in_new:",
        help="Opens its stored run, or only its settings if no run was stored.",
    ):
        try:
            distil_settings.show_run(runs.load(result.get("run", "")).id)
        except UserError:  # a search that was stopped, or whose run was deleted
            config = SearchConfig.from_dict(result["config"])
            distil_settings.show(
                config.distillation(
                    {name: value for name, value in result["best"].items() if name != "validation_accuracy"}
                )
            )
        st.switch_page(paths.page("distil"))
    label = f"The result of each trial. {search_results.summary(result)}"
    charts = {"search_history": (history(result), label)}
    if result["importances"]:
        most = max(result["importances"], key=result["importances"].get)
        charts["search_importances"] = (
            importances(result),
            f"How much each setting mattered; {most.replace('_', ' ')} most.",
        )
    live_charts(packed(charts), "search_charts")
    with st.expander("All trials"):
        percent = st.column_config.NumberColumn(format="percent")
        rows = [
            {
                "trial": trial["number"] + 1,
                **trial["params"],
                "validation accuracy": trial["value"],
                "control": trial.get("control"),
                "stopped early": trial["state"] != "complete",
            }
            for trial in result["trials"]
        ]
        st.dataframe(
            rows,
            hide_index=True,
            width="stretch",
            column_config={
                "validation accuracy": percent,
                "control": st.column_config.NumberColumn(format="percent", help=TERMS["control"]),
                "learning_rate": st.column_config.NumberColumn(format="%.4f"),
            },
        )


def _stored() -> None:
    """Show earlier searches."""
    searches = search_results.stored()
    if not searches:
        st.info(
            "There is no search yet. Press **Start**, or run `python -m kd search --student mlp-30`; its "
            "result appears here."
        )
        return
    st.subheader("Earlier searches", anchor=False)
    by_command = {search["command"]: search for search in reversed(searches)}
    commands = list(by_command)[::-1]
    search = by_command[
        st.selectbox("Search", commands, key="search_chosen") if len(commands) > 1 else commands[0]
    ]
    _outcome(search)
    # Shipped searches have results but no Optuna study to continue.
    on = (
        f"To continue this search, start the same settings with more trials: up to {STARTED_TRIALS} here, "
        "more on the command line."
        if search_results.finished()
        else "It is shown until you run a search of your own."
    )
    st.caption(f"Result of `{search['command']}` ({search['machine']}). {on}")
