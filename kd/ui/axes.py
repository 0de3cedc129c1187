"""The Sweep page's settings as widgets. They are kept over page changes as they were written, right or wrong, and are in the link."""

from __future__ import annotations

import dataclasses
from typing import Any, Mapping

import streamlit as st

from kd import models
from kd.errors import UserError
from kd.sweeps.grid_config import GridConfig
from kd.objectives import METHODS
from kd.optimizers import OPTIMIZERS
from kd.ui import keys, state


def restore() -> None:
    """On a session's first visit takes the settings from the link."""
    if keys.GRID in st.session_state:
        return
    query, found = st.query_params.to_dict(), GridConfig()
    try:
        found = GridConfig.from_query({name: value for name, value in query.items() if name != "run"})
    except UserError as error:
        state.notify("error", f"The link's settings cannot be used, so the defaults are shown. {error}")
    adopt(found)
    if query.keys() & {spec.name for spec in dataclasses.fields(GridConfig)}:
        st.session_state[keys.GRID_ADOPTED] = query.get("run")  # the link has settings of its own, which stay


def adopt(config: GridConfig) -> None:
    """Shows ``config`` in the widgets, which must not have been drawn in this run yet."""
    st.session_state[keys.GRID] = config.replace(continues="").to_dict()
    st.session_state[keys.GRID_WIDGETS] = st.session_state.get(keys.GRID_WIDGETS, 0) + 1


def settings() -> GridConfig | None:
    """The widgets; returns the config that they make, or None, and says why, where it is not valid."""
    kept = st.session_state[keys.GRID]
    left, right = st.columns(2)
    with left:
        _names("student", models.students(), new=True, placeholder="mlp-30, or a width of your own such as mlp-64")
        _text("temperature")
        _text("soft_weight")
    with right:
        _names("method", list(METHODS), format_func=lambda name: METHODS[name].title if name in METHODS else name)
        _text("labels")
        few, many = st.columns(2)
        with few:
            _number("seeds")
        with many:
            _number("epochs")
    with st.expander("Teacher, optimizer and first seed"):
        first, second, third = st.columns(3)
        names = state.teachers()
        names = names if kept["teacher"] in names else {kept["teacher"]: kept["teacher"]} | names
        with first:
            _chosen(st.selectbox, "teacher", options=list(names), index=list(names).index(kept["teacher"]), format_func=names.get)
            _number("seed")
        with second:
            _number("batch_size")
            _number("learning_rate", format="%.4f")
        with third:
            _chosen(st.segmented_control, "optimizer", options=list(OPTIMIZERS), default=kept["optimizer"], required=True, format_func={"adamw": "AdamW", "sgd": "SGD"}.get)
    try:
        return GridConfig.from_dict(kept)
    except UserError as error:
        st.error(str(error))
        return None


def _text(name: str) -> None:
    _chosen(st.text_input, name, value=st.session_state[keys.GRID][name].replace(",", ", "), max_chars=400)


def _number(name: str, **options: Any) -> None:
    about = GridConfig.setting(name)
    _chosen(st.number_input, name, value=st.session_state[keys.GRID][name], min_value=about["low"], max_value=about["high"], step=about["step"], **options)


def _names(name: str, options: list[str], new: bool = False, **more: Any) -> None:
    chosen = [value for value in st.session_state[keys.GRID][name].split(",") if value]
    options = [*options, *(value for value in chosen if value not in options)]
    _chosen(st.multiselect, name, options=options, default=chosen, accept_new_options=new, **more)


def _chosen(kind: Any, name: str, **options: Any) -> None:
    """The widget of one setting; what it says is kept. Label and help come from GridConfig."""
    about = GridConfig.setting(name)
    key = keys.setting("grid", f"{name}_{st.session_state[keys.GRID_WIDGETS]}")
    if key in st.session_state:  # else a default beside it would be a second opinion
        options = {option: value for option, value in options.items() if option not in ("value", "default", "index")}
    value = kind(about["label"], key=key, help=about["help"], **options)
    st.session_state[keys.GRID][name] = ",".join(value) if isinstance(value, list) else value.replace(" ", "") if kind is st.text_input else value


def write_link(run_id: str | None, view: Mapping[str, str]) -> None:
    """Puts all settings, where they are valid, the run and how it is looked at into the URL."""
    try:
        query = GridConfig.from_dict(st.session_state[keys.GRID]).to_query()
    except UserError:
        query = {}
    query |= ({"run": run_id} if run_id else {}) | view
    if st.query_params.to_dict() != query:
        st.query_params.from_dict(query)


