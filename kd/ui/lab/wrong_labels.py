"""Wrong labels: student and control trained with more and more of them."""

from __future__ import annotations

import json

import streamlit as st

from kd.experiments import study
from kd.figures import lab
from kd.jobs.snapshot import Snapshot
from kd.ui.lab import frame, running


def show() -> None:
    st.markdown(
        "Some labels are wrong: here up to 60% of the training labels are replaced by another digit. The "
        "**control** learns from them alone. The **student**'s loss is 10% (wrong) labels, 90% teacher. "
        "**The teacher was trained on correct labels**, and its soft targets outweigh the wrong labels. So "
        "this shows how a well-trained teacher helps when new data are badly labelled, not that "
        "distillation corrects wrong labels by itself (for a mix of soft and wrong labels, see [Li et al. "
        "2017](https://arxiv.org/abs/1703.02391))."
    )
    snap = running.study("noise")
    if snap is None:
        st.info(
            "Press **Start**: student and control are trained with 0, 60, 30, 45 and 15% wrong labels, a "
            "few seconds each."
        )
        return
    running.follow(running.OWN, snap, _curves)


@st.cache_data(max_entries=32, show_spinner=False)
def _found(run_id: str, version: int, _snap: Snapshot) -> tuple[dict, str, str]:
    """Return the curves, their figure as JSON, and a description."""
    curves, last = study.curves(_snap.rows), _snap.rows[-1]
    growing = {
        key.removeprefix("validation "): (last["value"], value)
        for key, value in last.items()
        if key.startswith("validation ")
    }
    ended = any(key.startswith("test ") for key in last)
    figure = lab.wrong_labels(curves, growing if _snap.active and not ended else {})
    spoken = "; ".join(
        f"{role} " + ", ".join(f"{point['value']:.0%} wrong: {point['mean']:.1%}" for point in curve)
        for role, curve in curves.items()
    )
    return curves, json.dumps(figure), spoken


def _curves(snap: Snapshot) -> None:
    if not snap.rows:
        return
    curves, figure, spoken = _found(snap.id, snap.version, snap)
    frame.chart(
        json.loads(figure),
        "noise",
        f"Test accuracy by the share of wrong labels: {spoken}.",
        "wrong-labels",
    )
    if curves:
        most = curves["control"][-1]
        student = curves["student"][-1]
        st.markdown(
            f"With **{most['value']:.0%}** of the labels wrong the student's test accuracy is "
            f"**{student['mean']:.1%}**, the control's {most['mean']:.1%}."
        )
    st.caption(
        "Mean and standard deviation over the seeds so far, on the test set, whose labels are correct. "
        "Hollow marks are networks in training, measured on 1,000 validation images."
    )
