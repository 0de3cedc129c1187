"""How many labels? Controls that learn from few labels, next to a student that has none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import streamlit as st

from kd.experiments import study
from kd.figures import lab
from kd.figures.base import Figure
from kd.jobs.snapshot import Snapshot
from kd.ui.lab import frame, running
from kd.ui.shell import shared


def show() -> None:
    everything = len(shared.manager().source.mnist().train)
    st.markdown(
        "Labels are expensive; images are cheap. The **student** below learns from the teacher's soft "
        "targets on all the training images and **without a single label** (its teacher once needed all of "
        f"them). The **controls** are the same network and learn from 10 to {everything:,} labelled images "
        "alone. To learn as well as they can, they shift each image at random every time it is used; in a "
        "second line they also rotate and scale it. A soft target says far more about an image than a "
        "label: the paper's speech recognizer kept nearly all its accuracy with soft targets on 3% of the "
        "data, where labels alone overfit ([Hinton, Vinyals & Dean 2015](https://arxiv.org/abs/1503.02531), "
        "section 6)."
    )
    snap = running.study("labels")
    if snap is None:
        st.info(
            "Press **Start** to train one small network after another; each adds a point to the chart. The "
            "first points appear at once; one seed takes a minute or two."
        )
        stored = study.stored("labels")
        if stored:
            st.markdown(f"Until then, what `{stored['command']}` measured:")
            _draw(stored["curves"], lab.label_budget(stored["curves"], None, 55_000))
        return
    running.follow(running.OWN, snap, _curves)


@st.cache_data(max_entries=32, show_spinner=False)
def _found(run_id: str, version: int, _snap: Snapshot) -> tuple[dict[str, list[dict[str, Any]]], str]:
    """Return the curves, and their figure as JSON."""
    curves = study.curves(_snap.rows)
    last = _snap.rows[-1]
    growing = [
        (key.removeprefix("validation "), last["value"], value)
        for key, value in last.items()
        if key.startswith("validation ")
    ]
    ended = any(key.startswith("test ") for key in last)
    everything = len(shared.manager().source.mnist().train)
    figure = lab.label_budget(curves, None if ended or not _snap.active else growing[0], everything)
    return curves, json.dumps(figure)


def _curves(snap: Snapshot) -> None:
    if snap.rows:
        curves, figure = _found(snap.id, snap.version, snap)
        _draw(curves, json.loads(figure))


def _draw(curves: Mapping[str, list[dict[str, Any]]], figure: Figure) -> None:
    spoken = "; ".join(
        f"{role} " + ", ".join(f"{point['value']:g}: {point['mean']:.1%}" for point in curve)
        for role, curve in curves.items()
    )
    frame.chart(
        figure,
        "budget",
        f"Test accuracy by number of labels: {spoken}.",
        "label-budget",
    )
    at = {
        role: next((point for point in curve if point["value"] in (study.NO_LABEL, 100)), None)
        for role, curve in curves.items()
    }
    if at.get("student") and at.get("control"):
        st.markdown(
            f"Without a single label, the student reaches a test accuracy of **{_spread(at['student'])}**; "
            f"with 100 labels the control reaches {_spread(at['control'])}"
            + (
                f", and {_spread(at['augmented control'])} with stronger augmentation"
                if at.get("augmented control")
                else ""
            )
            + (
                f". The control is **{100 * (at['student']['mean'] - at['control']['mean']):.1f} points** "
                "behind"
            )
            + (
                f" ({100 * (at['student']['mean'] - at['augmented control']['mean']):.1f} with stronger "
                "augmentation)"
                if at.get("augmented control")
                else ""
            )
            + "."
        )
    st.caption(
        "Mean and standard deviation over the seeds so far, on the test set; the recipes were tuned on the "
        "validation images. A hollow mark is a network in training, measured on 1,000 validation images. "
        "Rotation and scaling add knowledge too: a digit stays the same when it is turned a little."
    )


def _spread(point: dict[str, Any]) -> str:
    return f"{point['mean']:.1%}" + (f" ± {100 * point['sd']:.1f}" if len(point["all"]) > 1 else "")
