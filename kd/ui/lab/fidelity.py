"""Fidelity: does the student answer as its teacher does, and is it as sure as it should be?"""

from __future__ import annotations

import streamlit as st
from torch import Tensor

from kd import data, measure
from kd.jobs import Snapshot
from kd.lab import figures
from kd.ui import state
from kd.ui.lab import frame, running


def show() -> None:
    st.markdown(
        "**Fidelity is not accuracy**: a student can read more digits right than its control and still answer unlike its teacher, and matching the teacher better need "
        "not make it read better ([Stanton et al. 2021](https://arxiv.org/abs/2106.05945)). *Agreement* is the share of images on which it gives the teacher's "
        "answer, right or wrong; *KL* how far its probabilities are from the teacher's. *Calibration* asks whether of the digits of which a model is 80% sure, 80% "
        "are right: ECE is how far it is off, on average ([Guo et al. 2017](https://arxiv.org/abs/1706.04599))."
    )
    snap = running.distillation()
    if snap is not None:
        running.follow(snap, _curves)


def _curves(snap: Snapshot) -> None:
    if not snap.rows:
        return
    last, epochs = snap.rows[-1], snap.config.total_epochs
    with st.container():
        if "ece student" in last or "ece control" in last:
            for column, (what, title, share) in zip(st.columns(3), [
                ("agreement", "Agreement with the teacher", True), ("kl", "KL from the teacher, nats", False), ("ece", "Calibration error (ECE)", True),
            ]):
                with column:
                    found = ", ".join(f"{who} {last[f'{what} {who}']:.3f}" for who in ("student", "control") if f"{what} {who}" in last)
                    frame.chart(figures.fidelity(snap.rows, epochs, what, title, share), what, f"{title}: {found}.", what)
        else:
            st.caption("This run was stored without its fidelity over time.")
    part = "glance" if snap.active else "validation"
    groups = _groups(snap.id, snap.version, part, snap)
    if groups:
        digits = getattr(state.manager().source.mnist(), part)
        off = ", ".join(f"{who} {_ece(found):.2%}" for who, found in groups.items())
        frame.chart(figures.reliability(groups), "reliability", f"Reliability; calibration errors: {off}.", "reliability")
        st.caption(f"All on validation images, the last on {len(digits):,} of them, grouped by how sure a model is; larger marks are more images. ECE: {off}.")


@st.cache_resource(max_entries=24, show_spinner=False)
def _groups(run_id: str, version: int, part: str, _snap: Snapshot) -> dict[str, Tensor]:
    """The reliability of teacher, student and control on a part of MNIST; empty before student and control began."""
    digits = getattr(state.manager().source.mnist().to(data.device()), part)
    said = state.said(_snap, digits.inputs())
    if not said:
        return {}
    said = {"teacher": state.manager().teacher(_snap.config.teacher).logits(digits).cpu()} | said
    return {who: measure.reliability(said[who], digits.labels.cpu()) for who in ("teacher", "student", "control") if who in said}


def _ece(groups: Tensor) -> float:
    count, sure, right = groups.unbind(1)
    return ((sure - right).abs().nan_to_num() * count).sum().item() / count.sum().item()
