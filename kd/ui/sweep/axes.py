"""The settings of a sweep as widgets, and how many trainings they make."""

from __future__ import annotations

import streamlit as st

from kd.config.sweep import SweepConfig
from kd.errors import UserError
from kd.models import registry
from kd.objectives import METHODS
from kd.sweeps import sweep_cells, sweep_time, sweep_weights
from kd.ui.forms.form import Form
from kd.ui.shell import session_keys, shared
from kd.ui.shell.escape import plain

FORM = Form(SweepConfig, session_keys.GRID, "grid_form")


def method_title(name: str) -> str:
    return METHODS[name].title if name in METHODS else name


def settings() -> SweepConfig | None:
    """Draw the widgets and return the resulting config; if it is invalid, say why and return None."""
    left, right = st.columns(2)
    with left:
        FORM.widget(
            st.multiselect,
            "student",
            options=registry.students(),
            accept_new_options=True,
            placeholder="mlp-30, or a width of your own such as mlp-64",
            help="The networks that learn from the teacher.",
        )
        FORM.text("temperature")
        FORM.text("soft_weight")
    with right:
        FORM.widget(
            st.multiselect,
            "method",
            options=list(METHODS),
            format_func=method_title,
            help="How the students are taught.",
        )
        FORM.text("labels")
        few, many = st.columns(2)
        with few:
            FORM.number("seeds")
        with many:
            FORM.number("epochs")
    with st.expander("Teacher, optimizer and first seed"):
        first, second, third = st.columns(3)
        with first:
            FORM.teacher()
            FORM.number("seed")
        with second:
            FORM.number("batch_size")
            FORM.number("learning_rate", format="%.4f")
        with third:
            FORM.optimizer()
    return FORM.config()


def forecast(config: SweepConfig) -> None:
    """Say how many trainings there are, how long they take, and which networks are not kept."""
    controls = len(config.values("student")) * len(config.values("labels")) * config.seeds
    sentence = (
        f"**{config.count:,} trainings**: {many(config.count - controls, 'student')} and "
        f"{many(controls, 'control')}, computed together in {many(len(sweep_cells.groups(config)), 'group')}"
    )
    manager = shared.manager()
    try:
        if busy := manager.busy():
            sentence += (
                "" if sweep_time.known(config) else ". The time is estimated once nothing else is training."
            )
        if not busy or sweep_time.known(config):
            seconds = sweep_time.seconds(
                config, manager.source.mnist(), manager.teacher(config.teacher), again=not busy
            )
            if seconds is None:
                sentence += ". They differ too much to estimate the time now; you see it soon after Start."
            else:
                sentence += f"; about **{duration(seconds)}** (estimated from a short trial)."
        st.markdown(f"{sentence} {sweep_weights.bound(sweep_cells.cells(config))}")
    except UserError as error:
        st.error(plain(error))


def many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds)):,} s"
    return f"{round(seconds / 60):,} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
