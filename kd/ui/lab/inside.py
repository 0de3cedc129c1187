"""The panel "What did it learn?": first layers, feature maps, and images on which the networks differ."""

from __future__ import annotations

import numpy as np
import streamlit as st
import torch
from torch import Tensor

from kd.data.digits import Digits
from kd.data.task import MNIST
from kd.device import training_device
from kd.figures import lab
from kd.jobs.snapshot import Snapshot
from kd.lab import inside, soft_targets
from kd.ui.drawing import thumbnails
from kd.ui.lab import frame, running
from kd.ui.runs import snapshots
from kd.ui.shell import shared

UNITS = 32  # shown of the first layer
EVERY = 4  # every n-th of the 1,000 images is drawn on the map
PICTURES = 12  # of the images on which student and control differ, shown


def show() -> None:
    st.markdown(
        "Three looks into the networks while they train. The weights of the **first layer** as pictures: "
        "orange: ink here raises the unit; blue: lowers it. A **map** of the same validation images for "
        "teacher and student: the outputs of the last hidden layer, projected so that the largest "
        "differences show (PCA). Soft targets ask the student to keep unlike digits as far apart as the "
        "teacher keeps them; whether its hidden layer then looks like the teacher's is another question "
        "([Stanton et al. 2021](https://arxiv.org/abs/2106.05945)). And the **images on which student and "
        "control differ**, with the teacher's answer."
    )
    snap = running.distillation()
    if snap is not None:
        running.follow(running.SHARED, snap, _look)
    else:
        _teacher_places(
            MNIST.teacher, shared.manager().source.mnist().source
        )  # made ready, so that the first map comes at once


def _look(snap: Snapshot) -> None:
    source = shared.manager().source.mnist().source
    epochs = sum(row["whole_validation"] for row in snap.rows)
    weights, maps = _weights(snap.id, snap.version, snap), _maps(snap.id, epochs, source, snap)
    if weights:
        frame.charts(weights, "weights")
    elif snap.rows:
        st.caption("This network has no layer that sees the image itself.")
    frame.charts(maps, "maps")
    st.caption(
        f"The plane in which 1,000 validation images differ most, one in {EVERY} of them drawn. The "
        "student's map is turned to lie on the teacher's, so that it does not flip from one epoch to the "
        "next."
    )
    if snap.rows:
        _differences(snap)


@st.cache_resource(max_entries=16, show_spinner=False)
def _weights(run_id: str, version: int, _snap: Snapshot) -> bytes:
    """Return the first layers of student and control, packed; empty where there are none."""
    seen = snapshots.read_models(_snap, lambda model: inside.first_layer(model, UNITS))
    return (
        frame.pack(
            {
                f"first-layer-{who}": (
                    lab.weights(seen[who], who),
                    f"Weights into the first units of the {who}.",
                )
                for who in ("student", "control")
                if seen.get(who) is not None
            }
        )
        if any(units is not None for units in seen.values())
        else b""
    )


def _glance() -> Digits:
    return shared.manager().source.mnist().to(training_device()).glance


@st.cache_resource(max_entries=8, show_spinner=False)
def _teacher_places(name: str, source: str) -> np.ndarray | None:
    """Return the coordinates (N, 2) of the 1,000 images on the teacher's feature map."""
    features = inside.penultimate(shared.manager().teacher(name).model, _glance().inputs())
    return None if features is None else inside.plane(features)


@st.cache_resource(max_entries=16, show_spinner=False)
def _maps(run_id: str, epochs: float, source: str, _snap: Snapshot) -> bytes:
    """Return the maps of teacher and student, packed; the student's is aligned with the teacher's.

    They are computed once per epoch: at every tick they would take as much time as the training.
    """
    inputs = _glance().inputs()
    places = {"teacher": _teacher_places(_snap.config.teacher, source)}
    features = snapshots.read_models(_snap, lambda model: inside.penultimate(model, inputs)).get("student")
    if features is not None:
        own = inside.plane(features)
        places["student"] = own if places["teacher"] is None else inside.aligned(own, places["teacher"])
    labels = _glance().labels.cpu()[::EVERY]
    return frame.pack(
        {
            f"map-{who}": (
                lab.feature_map(found[::EVERY], labels, who),
                f"Map of {len(labels)} images by the {who}'s last hidden layer.",
            )
            for who, found in places.items()
            if found is not None
        }
    )


def _differences(snap: Snapshot) -> None:
    st.header("Where student and control differ", anchor=False)
    digits = _glance()
    said = snapshots.logits(snap, digits.inputs())
    if "student" not in said or "control" not in said:
        return
    guesses = {who: logits.argmax(1) for who, logits in said.items()}
    labels = digits.labels.cpu()
    apart = (guesses["student"] != guesses["control"]).nonzero().squeeze(1)
    won, lost = (int((guesses[who] == labels)[apart].sum()) for who in ("student", "control"))
    st.markdown(
        f"They differ on **{len(apart)}** of {len(labels):,} validation images: the student is right on "
        f"{won} of them, the control on {lost}, and neither on {len(apart) - won - lost}."
    )
    shown = apart[:PICTURES]
    if len(shown):
        targets = soft_targets.soft_targets(
            shared.manager()
            .teacher(snap.config.teacher)
            .logits(digits.take(shown.to(digits.labels.device)))
            .cpu(),
            1.0,
        )
        captions = [
            f"student {int(guesses['student'][i])}, control {int(guesses['control'][i])}; teacher "
            f"{_doubts(row)}"
            for i, row in zip(shown.tolist(), targets)
        ]
        thumbnails.row(list(digits.images[shown].cpu().numpy()), captions, 112)


def _doubts(targets: Tensor) -> str:
    """Return the teacher's first answer, and its second where it has one."""
    first, second = torch.topk(targets, 2).indices.tolist()
    return f"{first} ({targets[first]:.0%})" + (
        f" or {second} ({targets[second]:.0%})" if targets[second] >= 0.005 else ""
    )
