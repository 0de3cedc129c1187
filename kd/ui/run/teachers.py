"""The teachers to choose from, and how to find one."""

from __future__ import annotations

import contextlib

import streamlit as st

from kd.config.base import Settings
from kd.data.task import MNIST
from kd.device import training_device
from kd.errors import UserError
from kd.store import runs
from kd.teachers import catalogue, doubts
from kd.teachers.averaged import MeanTeacher
from kd.teachers.cached import CachedTeacher
from kd.ui.run import names
from kd.ui.shell import shared
from kd.ui.shell.escape import plain


def choices() -> dict[str, str]:
    """Return the teachers to choose from: name or run id -> label."""
    labels = {name: f"{name} (shipped)" for name in catalogue.shipped()}
    for run in runs.list_runs()[0]:
        if "teacher" in run.models and run.measures:
            labels[run.id] = f"{run.name}, {run.measures['models']['teacher']['test_accuracy']:.2%}"
    return names.distinct(labels)


def find(name: str) -> CachedTeacher | MeanTeacher:
    """Return the teacher called ``name``; if it is deleted or damaged, warn and return a shipped one.

    Raises:
        UserError: no teacher can be loaded.
    """
    try:
        return shared.manager().teacher(name)
    except UserError as error:
        for other in catalogue.shipped():
            with contextlib.suppress(UserError):
                teacher = shared.manager().teacher(other)
                st.warning(f"{plain(error)} The shipped teacher {other} is used instead.")
                return teacher
        raise


def architecture(name: str) -> str:
    """Return the architecture of the teacher called ``name``, without loading it.

    It is that of a shipped one if there is no such teacher, as in find().
    """
    try:
        return "+".join(map(_architecture, name.split("+")))
    except UserError:
        return MNIST.teacher


def _architecture(name: str) -> str:
    if runs.is_id(name):
        return runs.load(name).architecture
    return catalogue.describe(name)["architecture"] if name in catalogue.shipped() else MNIST.teacher


@st.cache_data(show_spinner=False, max_entries=12)
def accuracy(teacher: str, source: str) -> float:
    """Return a teacher's accuracy on the validation images of ``source``."""
    return (
        shared.manager()
        .teacher(teacher)
        .accuracy(shared.manager().source.mnist().to(training_device()).validation)
    )


def doubt(config: Settings) -> str:
    """Return a sentence on what is wrong with the teacher that ``config`` names; "" if nothing is.

    Raises:
        UserError: there is no such teacher, or its file is damaged.
    """
    teacher = shared.manager().teacher_of(config)
    return doubts.of(teacher, shared.manager().source.mnist().to(training_device()).glance, _called)


def _called(name: str) -> str:
    return runs.load(name).name if runs.is_id(name) else name
