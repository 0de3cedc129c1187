"""The settings of the Compress page as widgets, and the link."""

from __future__ import annotations

import streamlit as st

from kd.config.compress import CompressConfig
from kd.errors import UserError
from kd.models import compression, quantization
from kd.store import runs
from kd.teachers import catalogue
from kd.ui.forms.form import Form
from kd.ui.run import names
from kd.ui.shell import session_keys, url_state

FORM = Form(CompressConfig, session_keys.COMPRESS, "compress", always_valid=True)


def networks() -> dict[str, str]:
    """Return the networks that can be compressed, students first: name or run id -> label."""
    stored = [run for run in runs.list_runs()[0] if run.about.compressible and run.models and run.measures]
    stored.sort(key=lambda run: run.brief)  # the first is the default, and should have learned something
    students = {
        run.id: f"{run.name} ({'student, and its control' if 'control' in run.models else 'student'})"
        for run in stored
        if "student" in run.models
    }
    teachers = {run.id: f"{run.name} (teacher)" for run in stored if "teacher" in run.models}
    return names.distinct(
        students | {name: f"{name} (shipped teacher)" for name in catalogue.shipped()} | teachers
    )


def restore() -> None:
    """Take the settings from the link on the first visit; without any, choose the newest student."""
    if FORM.begun:
        return
    query = st.query_params.to_dict()
    FORM.restore(query)
    if "network" in query:
        # The link's settings take precedence over those of the run.
        st.session_state[session_keys.COMPRESS_ADOPTED] = query.get("run")
    else:
        FORM.put(network=next(iter(networks())))
        _with_its_teacher("network")


def settings() -> CompressConfig:
    return FORM.checked()


def _with_its_teacher(name: str) -> None:
    """Choose the teacher of a student that was chosen as the network."""
    network = settings().network
    try:
        if runs.is_id(network) and (run := runs.load(network)).about.has_teacher:
            FORM.put(teacher=run.config.teacher)
    except UserError:
        pass  # shown where the network is read


def network() -> None:
    """Draw the choice of the network to compress."""
    FORM.widget(
        st.selectbox,
        "network",
        options=networks(),
        help="A stored run's network or a shipped teacher.",
        changed=_with_its_teacher,
    )


def amounts() -> None:
    """Draw one slider per technique, in the order in which they are applied, and int8."""
    for column, (name, technique) in zip(
        st.columns(len(compression.TECHNIQUES)), compression.TECHNIQUES.items()
    ):
        with column:
            FORM.slider(name, format="%d%%")
            st.caption(f"{technique.purpose} [{technique.paper}]({technique.link}).")
    FORM.widget(st.segmented_control, "int8", options=quantization.INT8, required=True)


def fine_tuning() -> None:
    """Draw the settings of the fine-tuning."""
    left, middle, right = st.columns(3)
    with left:
        FORM.teacher()
        FORM.number("epochs")
    with middle:
        FORM.slider("temperature", format="%.1f")
        FORM.number("labels")
    with right:
        FORM.slider("soft_weight", format="%.2f")
        FORM.number("learning_rate", format="%.4f")


def write_link(run_id: str | None) -> None:
    """Put all settings and the run into the URL."""
    query = FORM.query() | {"network": settings().network} | ({"run": run_id} if run_id else {})
    url_state.write(query)
