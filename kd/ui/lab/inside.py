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
from kd.ui.run import snapshots
from kd.ui.shell import shared

UNITS = 32  # maximum number of first-layer units shown
EVERY = 4  # every n-th of the 1,000 images is drawn on the map
PICTURES = 12  # maximum number of images shown on which student and control differ


def show() -> None:
    st.markdown(
        "Three looks into the networks while they train. First, the weights of the **first layer** as "
        "pictures (orange: ink here raises the unit; blue: lowers it). Second, a **map** of the same "
        "validation images for teacher and student: the outputs of the last hidden layer, projected so that "
        "the largest differences show (PCA). Soft targets ask the student to match the teacher's outputs; "
        "whether its hidden layer then looks like the teacher's is another question ([Stanton et al. "
        "2021](https://arxiv.org/abs/2106.05945)). Third, the **images on which student and control "
        "differ**, with the teacher's answer."
    )
    snap = running.distillation()
    if snap is not None:
        running.follow(running.SHARED, snap, _look)
    else:
        # Computed now, so that the first map appears at once.
        _teacher_places(MNIST.teacher, shared.manager().source.mnist().source)


def _look(snap: Snapshot) -> None:
    source = shared.manager().source.mnist().source
    epochs = sum(row["whole_validation"] for row in snap.rows)
    weights, maps = _weights(snap.id, snap.version, snap), _maps(snap.id, epochs, source, snap)
    if weights:
        frame.charts(weights, "weights")
    elif snap.rows:
        st.caption("This network has no layer that reads the image directly.")
    frame.charts(maps, "maps")
    st.caption(
        "1,000 validation images, projected on the two directions in which they differ most; one in "
        f"{EVERY} is drawn. The student's map is rotated or mirrored to match the teacher's, so that it "
        "does not flip between epochs."
    )
    if snap.rows:
        _differences(snap)


@st.cache_resource(max_entries=16, show_spinner=False)
def _weights(run_id: str, version: int, _snap: Snapshot) -> bytes:
    """Return the first layers of student and control, packed; empty if there are none."""
    seen = snapshots.read_models(_snap, lambda model: inside.first_layer(model, UNITS))
    return (
        frame.pack(
            {
                f"first-layer-{role}": (
                    lab.weights(seen[role], role),
                    f"Weights into the first units of the {role}.",
                )
                for role in ("student", "control")
                if seen.get(role) is not None
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

    They are computed once per epoch: at every update they would take as much time as training.
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
            f"map-{role}": (
                lab.feature_map(coordinates[::EVERY], labels, role),
                f"Map of {len(labels)} images by the {role}'s last hidden layer.",
            )
            for role, coordinates in places.items()
            if coordinates is not None
        }
    )


def _differences(snap: Snapshot) -> None:
    st.header("Where student and control differ", anchor=False)
    digits = _glance()
    logits = snapshots.logits(snap, digits.inputs())
    if "student" not in logits or "control" not in logits:
        return
    guesses = {role: values.argmax(1) for role, values in logits.items()}
    labels = digits.labels.cpu()
    apart = (guesses["student"] != guesses["control"]).nonzero().squeeze(1)
    won, lost = (int((guesses[role] == labels)[apart].sum()) for role in ("student", "control"))
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
    """Return the teacher's most probable digit, and the second if it has a visible probability."""
    first, second = torch.topk(targets, 2).indices.tolist()
    return f"{first} ({targets[first]:.0%})" + (
        f" or {second} ({targets[second]:.0%})" if targets[second] >= 0.005 else ""
    )
