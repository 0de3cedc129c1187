"""What did it learn? First layers, maps of features, and the images on which student and control differ."""

from __future__ import annotations

import numpy as np
import streamlit as st
import torch
from torch import Tensor

from kd import data
from kd.data import Digits
from kd.jobs import Snapshot
from kd.lab import figures, inside, soft_targets
from kd.ui import state
from kd.ui.lab import frame, running

UNITS = 32  # of the first layer
EVERY = 4  # of the 1,000 images of the map each so manieth is drawn
PICTURES = 12  # on which they differ


def show() -> None:
    st.markdown(
        "Three looks into the networks while they train. The weights of the **first layer** as pictures: orange where ink speaks for a unit, blue where it speaks "
        "against it. A **map** of the same validation images for teacher and student: what the last layer sees of each, laid out so that the largest differences "
        "show (PCA). Soft targets ask the student to keep unlike digits as far apart as the teacher keeps them; whether its hidden layer then looks like the "
        "teacher's is another question ([Stanton et al. 2021](https://arxiv.org/abs/2106.05945)). And the **images on which student and control differ**, with what the "
        "teacher thinks of them."
    )
    snap = running.distillation()
    if snap is not None:
        running.follow(snap, _look)


def _look(snap: Snapshot) -> None:
    _weights(snap)
    _maps(snap)
    _differences(snap)


def _weights(snap: Snapshot) -> None:
    seen = state.look(snap, lambda model: inside.first_layer(model, UNITS))
    columns = st.columns(2)
    for column, who in zip(columns, ("student", "control")):
        with column:
            if seen.get(who) is not None:
                frame.chart(figures.weights(seen[who], who), f"weights_{who}", f"Weights into the first units of the {who}.", f"first-layer-{who}")
    if seen and all(units is None for units in seen.values()):
        st.caption("This network has no layer that sees the image itself.")


def _glance() -> Digits:
    return state.manager().source.mnist().to(data.device()).glance


@st.cache_resource(max_entries=8, show_spinner=False)
def _teacher_places(name: str, source: str) -> np.ndarray | None:
    """(N, 2) where the teacher's features put the 1,000 images."""
    features = inside.penultimate(state.manager().teacher(name).model, _glance().inputs())
    return None if features is None else inside.plane(features)


@st.cache_resource(max_entries=16, show_spinner=False)
def _student_places(run_id: str, version: int, teacher: str, source: str, _snap: Snapshot) -> np.ndarray | None:
    """(N, 2) where the student's put them, laid on the teacher's; None before it began."""
    inputs = _glance().inputs()
    features = state.look(_snap, lambda model: inside.penultimate(model, inputs)).get("student")
    if features is None:
        return None
    places, reference = inside.plane(features), _teacher_places(teacher, source)
    return places if reference is None else inside.laid_on(places, reference)


def _maps(snap: Snapshot) -> None:
    source = state.manager().source.mnist().source
    teacher, student = _teacher_places(snap.config.teacher, source), _student_places(snap.id, snap.version, snap.config.teacher, source, snap)
    labels = _glance().labels.cpu()[::EVERY]
    columns = st.columns(2)
    for column, who, places in zip(columns, ("teacher", "student"), (teacher, student)):
        with column:
            if places is not None:
                frame.chart(figures.feature_map(places[::EVERY], labels, who), f"map_{who}", f"Map of {len(labels)} images by the {who}'s last hidden layer.", f"map-{who}")
    st.caption(
        f"The plane in which 1,000 validation images differ most, {len(labels)} of them drawn. The student's is turned to lie on the teacher's, so that it does not "
        "flip from one moment to the next."
    )


def _differences(snap: Snapshot) -> None:
    st.subheader("Where student and control differ", anchor=False)
    digits = _glance()
    said = state.said(snap, digits.inputs())
    if "student" not in said or "control" not in said:
        return
    guesses = {who: logits.argmax(1) for who, logits in said.items()}
    labels = digits.labels.cpu()
    apart = (guesses["student"] != guesses["control"]).nonzero().squeeze(1)
    won, lost = (int((guesses[who] == labels)[apart].sum()) for who in ("student", "control"))
    st.markdown(f"They differ on **{len(apart)}** of {len(labels):,} validation images: on {won} the student is right, on {lost} the control, on {len(apart) - won - lost} neither.")
    shown = apart[:PICTURES]
    if len(shown):
        targets = soft_targets.soft_targets(state.manager().teacher(snap.config.teacher).logits(digits.take(shown.to(digits.labels.device))).cpu(), 1.0)
        captions = [
            f"student {int(guesses['student'][i])}, control {int(guesses['control'][i])}; teacher {_doubts(row)}" for i, row in zip(shown.tolist(), targets)
        ]
        st.image(list(np.kron(digits.images[shown].cpu().numpy(), np.ones((1, 3, 3), np.uint8))), caption=captions, width=120)


def _doubts(targets: Tensor) -> str:
    """The teacher's first answer, and its second where it has one."""
    first, second = torch.topk(targets, 2).indices.tolist()
    return f"{first} ({targets[first]:.0%})" + (f" or {second} ({targets[second]:.0%})" if targets[second] >= 0.005 else "")
