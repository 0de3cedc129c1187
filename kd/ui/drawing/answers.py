"""The models' answers to a picture, computed and shown."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import streamlit as st
import torch
from torch import Tensor

from kd.config.kinds import KINDS
from kd.data import digits
from kd.device import training_device
from kd.drawing import familiarity
from kd.figures import training
from kd.jobs.snapshot import Snapshot
from kd.models import inference
from kd.ui.charts.chart import live_chart
from kd.ui.charts.roles import MARKS, STREAMLIT_COLOURS
from kd.ui.runs import snapshots
from kd.ui.shell import shared


@dataclasses.dataclass(frozen=True)
class Answers:
    """The raw logits (10,) of each model for one picture, by "teacher", "student", "control"."""

    logits: dict[str, Tensor]
    is_digit: bool  # False if the teacher's features are unlike those of any digit


def answer(pixels, snap: Snapshot | None, teacher_name: str) -> Answers:
    """Return the answers of teacher, student and control to one picture.

    Args:
        pixels: (28, 28) uint8.
        snap: the run whose student and control answer, or None for the teacher alone.
    """
    inputs = digits.normalize(torch.from_numpy(pixels).unsqueeze(0))
    taught, is_digit = _teacher_answer(teacher_name, inputs, pixels.tobytes())
    logits = {"teacher": taught}
    if snap is not None and KINDS[snap.kind].leaves_student:
        logits |= snapshots.logits(snap, inputs)
    return Answers({name: value[0] for name, value in logits.items()}, is_digit)


@st.cache_resource(show_spinner=False, max_entries=64)
def _teacher_answer(teacher_name: str, _inputs: Tensor, picture: bytes) -> tuple[Tensor, bool]:
    """Return the teacher's logits (1, 10), and whether the picture looks like a digit to it.

    Cached, because while a student learns, the same picture is classified several times a second, and the
    teacher is the slowest network.
    """
    inputs = _inputs.to(training_device())
    logits = inference.logits_in_chunks(shared.manager().teacher(teacher_name).model, inputs).cpu()
    return logits, bool(familiar(teacher_name).knows(inputs)[0])


@st.cache_resource(show_spinner=False, max_entries=4)
def familiar(teacher_name: str) -> familiarity.Familiar:
    """Return the test of whether a picture looks like a digit to the teacher (the first of several).

    Its threshold is set on validation images.
    """
    teacher = shared.manager().teacher(teacher_name.split("+")[0])
    return familiarity.Familiar(teacher.model, shared.manager().source.mnist().validation)


def show_bars(logits: Mapping[str, Tensor], temperature: float, key: str) -> None:
    """Show the models' answers to one picture: a headline, and bars that are updated in place."""
    headline = []
    for name, values in logits.items():
        shares = values.double().softmax(0)
        digit = int(shares.argmax())
        headline.append(f":{STREAMLIT_COLOURS[name]}[{MARKS[name]} {name}] **{digit}** ({shares[digit]:.0%})")
    st.markdown(" &nbsp; ".join(headline))
    plain = ", ".join(f"{name} says {int(values.argmax())}" for name, values in logits.items())
    live_chart(training.bars(logits, temperature), key, f"Probabilities of the ten digits: {plain}.")


def warn_not_a_digit() -> None:
    st.warning(
        "Not a digit? The teacher's features say that it looks less like one than 99% of real digits do. "
        "Networks always answer something."
    )
