"""The result of a run on the test set."""

from __future__ import annotations

import math
from collections.abc import Mapping

import streamlit as st

from kd.config.glossary import TERMS
from kd.config.kinds import KINDS
from kd.figures import base
from kd.jobs.snapshot import Snapshot
from kd.ui.charts.roles import MARKS, STREAMLIT_COLOURS


def show(snap: Snapshot) -> None:
    """Show the results on the test set: student, control and teacher."""
    if not snap.measures:
        return
    models: Mapping[str, Mapping[str, float]] = snap.measures["models"]
    sample = snap.source == "sample"
    count = snap.measures["test_images"]
    st.header("Result" if not sample else "Result on the 1,000 held-out images", anchor=False)
    names = sorted(models, key=base.order)
    for column, name in zip(st.columns(len(names)), names):
        model = models[name]
        with column:
            st.metric(
                f":{STREAMLIT_COLOURS[name]}[{MARKS[name]}] {name}",
                f"{model['test_accuracy']:.2%}",
                help=f"Accuracy on the test images. {TERMS.get(name, '')}".rstrip(),
            )
            st.caption(
                f"{model['test_errors']:,.0f} errors in {count:,}"
                + (f"; agrees with the teacher on {model['agreement']:.2%}" if name != "teacher" else "")
            )
    if {"student", "control"} <= models.keys():  # a run stopped early in its scheme has only one of them
        st.caption(_verdict(models["student"]["test_errors"], models["control"]["test_errors"], snap))


def _verdict(student: float, control: float, snap: Snapshot) -> str:
    """Say whether the difference between student and control exceeds chance."""
    chance = 2 * math.sqrt(max(1.0, student + control))
    gap = control - student
    same = KINDS[snap.kind].control_note(snap.config)
    if abs(gap) <= chance:
        verdict = (
            f"A gap of {abs(gap):.0f} errors is within chance (up to about {chance:.0f} here): try other "
            "seeds before you believe it."
        )
    else:
        verdict = (
            f"The student made {abs(gap):.0f} {'fewer' if gap > 0 else 'more'} errors, beyond what chance "
            f"explains (about {chance:.0f})."
        )
    seconds = f" Training both took {snap.measures['seconds']:.1f} s."
    return f"{same} {verdict}{seconds}"
