"""The Compress page's settings as widgets. They are kept over page changes, and are in the link."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from kd.config.compress import CompressConfig
from kd.errors import UserError
from kd.models import compression, quantization
from kd.store import runs
from kd.teachers import catalogue
from kd.ui.runs import names, teachers
from kd.ui.shell import notices, session_keys, url_state


def networks() -> dict[str, str]:
    """What can be compressed, students first: name or run id -> what to call it."""
    found = [run for run in runs.list_runs()[0] if run.about.compressible and run.models and run.measures]
    students = {
        run.id: f"{run.name} ({'student, and its control' if 'control' in run.models else 'student'})"
        for run in found
        if "student" in run.models
    }
    teachers = {run.id: f"{run.name} (teacher)" for run in found if "teacher" in run.models}
    return names.distinct(
        students | {name: f"{name} (shipped teacher)" for name in catalogue.shipped()} | teachers
    )


def restore() -> None:
    """On a session's first visit takes the settings from the link; without any, the newest student is chosen."""
    if session_keys.COMPRESS in st.session_state:
        return
    query = st.query_params.to_dict()
    found = CompressConfig()
    try:
        found = CompressConfig.from_query({name: value for name, value in query.items() if name != "run"})
    except UserError as error:
        notices.notify("error", f"The link's settings cannot be used, so the defaults are shown. {error}")
    adopt(found)
    if "network" in query:
        st.session_state[session_keys.COMPRESS_ADOPTED] = query.get(
            "run"
        )  # the link has settings of its own, which stay
    else:
        _choose(next(iter(networks())))


def settings() -> CompressConfig:
    return CompressConfig.from_dict(st.session_state[session_keys.COMPRESS])


def adopt(config: CompressConfig) -> None:
    """Shows ``config`` in the widgets, which must not have been drawn in this run yet."""
    st.session_state[session_keys.COMPRESS] = config.to_dict()
    _make_anew()


def _choose(network: str) -> None:
    """Another network; a student's own teacher comes with it."""
    config = settings().replace(network=network)
    try:
        if runs.is_id(network) and (run := runs.load(network)).about.has_teacher:
            config = config.replace(teacher=run.config.teacher)
    except UserError:
        pass  # told where the network is read
    adopt(config)


def network() -> None:
    """Chooses what is compressed."""
    names = networks()
    kept = settings().network
    if kept not in names:
        names = {kept: kept} | names
    about = CompressConfig.setting("network")
    key = _key("network")
    st.selectbox(
        about["label"],
        list(names),
        index=list(names).index(kept),
        key=key,
        help="A stored run's network or a shipped teacher.",
        format_func=names.get,
        on_change=lambda: _choose(st.session_state[key]),
    )


def amounts() -> None:
    """One slider a technique, in the order in which they are done, and int8."""
    for column, (name, technique) in zip(
        st.columns(len(compression.TECHNIQUES)), compression.TECHNIQUES.items()
    ):
        with column:
            chosen(st.slider, name, format="%d%%")
            st.caption(f"{technique.purpose} [{technique.paper}]({technique.link}).")
    chosen(st.segmented_control, "int8", options=quantization.INT8, required=True)


def recovery() -> None:
    """How the recovery learns."""
    names = teachers.choices()
    kept = settings().teacher
    names = names if kept in names else {kept: kept} | names
    left, middle, right = st.columns(3)
    with left:
        chosen(st.selectbox, "teacher", options=list(names), format_func=names.get)
        chosen(st.number_input, "epochs")
    with middle:
        chosen(st.slider, "temperature", format="%.1f")
        chosen(st.number_input, "labels")
    with right:
        chosen(st.slider, "soft_weight", format="%.2f")
        chosen(st.number_input, "learning_rate", format="%.4f")


def chosen(kind: Callable, name: str, **options: Any) -> None:
    """The widget of one setting. Label, help and range come from CompressConfig."""
    about, value = CompressConfig.setting(name), getattr(settings(), name)
    if about["low"] is not None:
        options |= {
            "min_value": about["low"],
            "max_value": about["high"],
            "step": about["step"],
            "value": value,
        }
    elif kind is st.selectbox:
        options["index"] = options["options"].index(value)
    else:
        options["default"] = value
    kind(about["label"], key=_key(name), help=about["help"], on_change=_take, args=(name,), **options)


def _take(name: str) -> None:
    """What the widget says becomes the setting. What is not valid is told in a sentence, and the widget goes back."""
    try:
        st.session_state[session_keys.COMPRESS] = (
            settings().replace(**{name: st.session_state[_key(name)]}).to_dict()
        )
    except UserError as error:
        notices.notify("error", str(error))
        _make_anew()


def _key(name: str) -> str:
    """The key of a setting's widget. One that was made anew has another, since the browser keeps a widget's value by its key."""
    return session_keys.setting(
        "compress", f"{name}_{st.session_state.get(session_keys.COMPRESS_WIDGETS, 0)}"
    )


def _make_anew() -> None:
    st.session_state[session_keys.COMPRESS_WIDGETS] = (
        st.session_state.get(session_keys.COMPRESS_WIDGETS, 0) + 1
    )


def write_link(run_id: str | None) -> None:
    """Puts all settings and the run into the URL."""
    config = settings()
    query = config.to_query() | {"network": config.network} | ({"run": run_id} if run_id else {})
    url_state.write(query)
