"""Fidelity: does the student answer as its teacher does, and are its probabilities calibrated?"""

from __future__ import annotations

import streamlit as st
from torch import Tensor

from kd.device import training_device
from kd.figures import lab
from kd.jobs.snapshot import Snapshot
from kd.metrics import classification
from kd.ui.lab import frame, running
from kd.ui.run import snapshots
from kd.ui.shell import shared


def show() -> None:
    st.markdown(
        "**Fidelity is not accuracy**: a student can be more accurate than its control and still answer "
        "unlike its teacher, and matching the teacher better need not make it more accurate ([Stanton et "
        "al. 2021](https://arxiv.org/abs/2106.05945)). *Agreement* counts the digits for which the student "
        "gives the teacher's answer, right or wrong; *KL* is the distance between their probabilities. "
        "*Calibration* asks: of the digits of which a model is 80% sure, are 80% right? ECE is the average "
        "gap ([Guo et al. 2017](https://arxiv.org/abs/1706.04599))."
    )
    snap = running.distillation()
    if snap is not None:
        running.follow(running.SHARED, snap, _curves)


MEASURES = {
    "unlike": "Disagreement with the teacher",
    "kl": "KL from the teacher, nats",
    "ece": "Calibration error (ECE)",
}


def _curves(snap: Snapshot) -> None:
    if not snap.rows:
        return
    with st.container():
        if any(key.startswith("ece ") for key in snap.rows[-1]):
            frame.charts(_over_time(snap.id, snap.version, snap), "fidelity")
        else:
            st.caption("This run has no stored fidelity over time.")
    part = "glance" if snap.active else "validation"
    groups = _groups(snap.id, snap.version, part, shared.source(), snap)
    if groups:
        digits = getattr(shared.manager().source.mnist(), part)
        errors = ", ".join(f"{role} {classification.distance(group):.2%}" for role, group in groups.items())
        frame.chart(
            lab.reliability(groups),
            "reliability",
            f"Reliability; calibration errors: {errors}.",
            "reliability",
        )
        st.caption(
            f"All on validation images. The last chart groups {len(digits):,} of them by the model's "
            "confidence; on the dotted line a model is as sure as it should be. Larger marks stand for more "
            f"images; small ones are noisy. ECE: {errors}."
        )


@st.cache_resource(max_entries=16, show_spinner=False)
def _over_time(run_id: str, version: int, _snap: Snapshot) -> bytes:
    """Return the three measures over the epochs, packed."""
    rows = [
        row
        | {
            f"unlike {role}": 1 - row[f"agreement {role}"]
            for role in ("student", "control")
            if f"agreement {role}" in row
        }
        for row in _snap.rows
    ]
    charts = {}
    for what, title in MEASURES.items():
        spoken = ", ".join(
            f"{role} {rows[-1][f'{what} {role}']:.3f}"
            for role in ("student", "control")
            if f"{what} {role}" in rows[-1]
        )
        if spoken:
            charts[what] = (
                lab.fidelity(rows, _snap.config.total_epochs, what, title, share=what != "kl"),
                f"{title}: {spoken}.",
            )
    return frame.pack(charts)


@st.cache_resource(max_entries=24, show_spinner=False)
def _groups(run_id: str, version: int, part: str, source: str, _snap: Snapshot) -> dict[str, Tensor]:
    """Return the reliability of each model on a part of MNIST; empty until student and control exist."""
    digits = getattr(shared.manager().source.mnist().to(training_device()), part)
    logits = snapshots.logits(_snap, digits.inputs())
    if not logits:
        return {}
    logits = {"teacher": shared.manager().teacher(_snap.config.teacher).logits(digits).cpu()} | logits
    return {
        role: classification.reliability(logits[role], digits.labels.cpu())
        for role in ("teacher", "student", "control")
        if role in logits
    }
