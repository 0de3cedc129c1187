"""The models' answers to a picture, computed and shown."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import numpy as np
import streamlit as st
import torch
from torch import Tensor

from kd.config.kinds import KINDS
from kd.data import digits
from kd.device import training_device
from kd.drawing import doubts, familiarity, links
from kd.figures import training
from kd.figures.base import Figure
from kd.jobs.snapshot import Snapshot
from kd.models import inference
from kd.ui.charts.chart import live_charts, packed
from kd.ui.charts.roles import MARKS, STREAMLIT_COLOURS
from kd.ui.run import snapshots
from kd.ui.shell import shared


@dataclasses.dataclass(frozen=True)
class Answers:
    """The raw logits (10,) of each model for one picture, by "teacher", "student", "control"."""

    logits: dict[str, Tensor]
    doubt: str | None  # why the picture does not show one digit, if so


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
    doubt = doubts.not_one_digit(pixels, is_digit)
    return Answers({name: value[0] for name, value in logits.items()}, doubt)


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


def show(
    logits: Mapping[str, Tensor],
    temperature: float,
    key: str,
    apart: bool = False,
    captions: Mapping[str, str] | None = None,
    live: tuple[Snapshot, np.ndarray] | None = None,
) -> None:
    """Show the models' answers to one picture: a headline, and bars that are updated in place.

    Args:
        logits: role -> (10,) logits.
        temperature: divides the logits before the softmax.
        key: a key of the element, unique on the page.
        apart: whether each model has a chart of its own.
        captions: role -> a line below its chart, where ``apart``.
        live: a run and the picture, (28, 28) uint8. While the run is active, the browser fetches the answers
            to the picture again by itself.
    """
    news = None
    if live and live[0].active:
        snap, picture = live
        news = _news(snap) | {"follow": address(snap.id, picture, temperature, apart)}
    charts = _charts(logits, temperature, apart, captions or {})
    live_charts(packed(charts, news), key, on_turn=lambda: None)


def message(snap: Snapshot, picture: np.ndarray, temperature: float, apart: bool) -> bytes:
    """Return the answers of a run's models to a picture, as browsers fetch them while it is active."""
    logits = answer(picture, snap, snap.config.teacher).logits
    return packed(_charts(logits, temperature, apart, {}), _news(snap))


def address(run_id: str, picture: np.ndarray, temperature: float, apart: bool) -> str:
    """Return the address of the answers to a picture, relative to the page's address."""
    query = {"picture": links.to_text(picture), "temperature": f"{temperature:g}"} | (
        {"apart": "1"} if apart else {}
    )
    return f"kd/answers/{run_id}?{urlencode(query)}"


def _news(snap: Snapshot) -> dict[str, Any]:
    """Return what a browser needs to know to ask again.

    Spectators ask half as often as the owner: each drawing is computed for itself, while a run's charts are
    the same for all.
    """
    every = snap.pace * (2 if snap.followed else 1) if snap.active else 0
    return {"version": snap.version, "state": snap.state, "every": every}


def _charts(
    logits: Mapping[str, Tensor], temperature: float, apart: bool, captions: Mapping[str, str]
) -> dict[str, tuple[Figure, str]]:
    """Return the figures by name, each with its description in words."""
    if not apart:
        figure = training.bars(logits, temperature)
        figure["headline"] = [_headline(role, logits[role], temperature) for role in logits]
        plain = ", ".join(f"{role} says {int(values.argmax())}" for role, values in logits.items())
        figure["doubt"] = doubts.contradiction(logits)
        return {"chart_answers": (figure, f"Probabilities of the ten digits: {plain}.")}
    charts = {}
    for role, values in logits.items():
        figure = training.bars({role: values}, temperature)
        figure["layout"] |= {"showlegend": False, "height": 220}
        figure["headline"] = [_headline(role, values, temperature)]
        figure["apart"] = True
        figure["doubt"] = doubts.contradiction(logits) if role == "student" else None
        if role in captions:
            figure["caption"] = captions[role]
        charts[f"draw_{role}"] = (figure, f"{role} says {int(values.argmax())}.")
    return charts


def _headline(role: str, logits: Tensor, temperature: float) -> dict[str, str]:
    """Return a model's answer in words, with the probability that its bar shows."""
    shares = (logits.double() / temperature).softmax(0)
    digit = int(shares.argmax())
    share = f"{shares[digit]:.1%}" if 0.995 < shares[digit] < 0.9995 else f"{shares[digit]:.0%}"
    return {
        "role": role,
        "mark": MARKS[role],
        "colour": STREAMLIT_COLOURS[role],
        "digit": str(digit),
        "share": f"{share} at T={temperature:g}" if temperature != 1 else share,
    }


def warn(answer: Answers) -> None:
    """Show why the picture does not show one digit, if so."""
    if answer.doubt:
        st.warning(answer.doubt)
