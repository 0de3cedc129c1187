"""Noise and shift: corrupted test digits, for teacher, student and control."""

from __future__ import annotations

import numpy as np
import streamlit as st
from torch import Tensor

from kd.data import digits
from kd.data.digits import Digits
from kd.data.task import MNIST
from kd.device import training_device
from kd.figures import lab
from kd.jobs.snapshot import Snapshot
from kd.lab.corruptions import CORRUPTIONS, Corruption
from kd.models import inference
from kd.ui.drawing import thumbnails
from kd.ui.lab import frame, running
from kd.ui.run import snapshots
from kd.ui.shell import shared
from kd.ui.shell.error_boundary import plainly

LIVE, ALL = 500, 2_000  # test images, while a run trains and afterwards
SHOWN = 3  # digits in the strip


def show() -> None:
    st.markdown(
        "Student and control are trained on upright, centred digits. Here the **test digits** are "
        "rotated, shifted, thickened, blurred or covered with noise, in steps. The best on clean digits is "
        "not always the best here: the shipped teacher, trained on images that were rotated and shifted a "
        "little, stays far ahead of both when digits are rotated, but it breaks down first under blur and "
        "noise, which it never trained on. Soft targets on clean digits teach a student how the teacher "
        "answers clean digits, and little about how it answers others (corruptions after [Mu & Gilmer "
        "2019](https://arxiv.org/abs/1906.02337))."
    )
    snap = running.distillation()
    if snap is not None:
        _spoiled(snap)
    else:
        # Computed now, so that the first curves appear at once.
        _teacher(MNIST.teacher, frame.settings().corruption, LIVE, shared.source())


@st.fragment
@plainly()
def _spoiled(snap: Snapshot) -> None:
    corruption = CORRUPTIONS[
        frame.FORM.widget(st.segmented_control, "corruption", options=list(CORRUPTIONS), required=True)
    ]
    _strip(corruption)
    running.follow(running.SHARED, snap, _curves)
    frame.write_link()


def _digits(count: int) -> Digits:
    test = shared.manager().source.mnist().test
    return test.take(slice(0, None, max(1, len(test) // count)))


def _spoil(corruption: Corruption, count: int) -> list[Tensor]:
    """Return inputs (N, 1, 28, 28) for each level."""
    images = _digits(count).images
    return [
        digits.normalize(corruption.apply(images, level)).to(training_device()) for level in corruption.levels
    ]


def _strip(corruption: Corruption) -> None:
    """Show a few digits at each level, as the models see them."""
    images = shared.manager().source.mnist().test.images[:SHOWN]
    columns = [
        np.concatenate(list(corruption.apply(images, level).cpu().numpy())) for level in corruption.levels
    ]
    thumbnails.row(columns, [f"{level:g}" for level in corruption.levels])


@st.cache_data(max_entries=32, show_spinner=False)
def _teacher(name: str, corruption: str, count: int, source: str) -> list[float]:
    """Return the teacher's accuracy at each level."""
    labels, model = _digits(count).labels, shared.manager().teacher(name).model
    return [
        _share(inference.logits_in_chunks(model, inputs), labels)
        for inputs in _spoil(CORRUPTIONS[corruption], count)
    ]


@st.cache_data(max_entries=64, show_spinner=False)
def _students(
    run_id: str, version: int, corruption: str, count: int, source: str, _snap: Snapshot
) -> dict[str, list[float]]:
    """Return the accuracy of student and control at each level; empty until they exist."""
    labels, accuracies = _digits(count).labels, {}
    for inputs in _spoil(CORRUPTIONS[corruption], count):
        logits = snapshots.logits(_snap, inputs)
        for role in ("student", "control"):
            if role in logits:
                accuracies.setdefault(role, []).append(_share(logits[role], labels))
    return accuracies


def _share(logits: Tensor, labels: Tensor) -> float:
    return (logits.argmax(1).cpu() == labels.cpu()).float().mean().item()


def _curves(snap: Snapshot) -> None:
    corruption = CORRUPTIONS[frame.settings().corruption]
    count = LIVE if snap.active else ALL
    source = shared.source()
    shares = {"teacher": _teacher(snap.config.teacher, corruption.name, count, source)} | _students(
        snap.id, snap.version, corruption.name, count, source, snap
    )
    spoken = ", ".join(f"{role} {values[-1]:.0%}" for role, values in shares.items())
    figure = lab.severity(shares, list(corruption.levels), corruption.unit, corruption.name)
    frame.chart(
        figure,
        "severity",
        f"Accuracy on {corruption.name} test digits at the highest level: {spoken}.",
        f"{corruption.name}-digits",
    )
    st.caption(
        f"On {len(_digits(count)):,} of the test images, the same at each level; no setting was tuned on "
        f"them. At the highest level: {spoken}."
    )
