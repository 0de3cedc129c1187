"""The Draw page: one picture, and the answers of teacher, student and control to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import streamlit as st

from kd.config.base import plain_number
from kd.data.task import MNIST
from kd.device import training_device
from kd.drawing import oddities, preprocess, uploads
from kd.errors import UserError
from kd.jobs.snapshot import Snapshot
from kd.metrics.latency import Latency, measure_latency
from kd.models import inference, registry
from kd.store import drawings, runs
from kd.teachers.averaged import MeanTeacher
from kd.teachers.cached import CachedTeacher
from kd.ui.drawing import answers, thumbnails
from kd.ui.drawing.canvas import canvas
from kd.ui.run import names, snapshots, teachers
from kd.ui.shell import notices, shared, visitor
from kd.ui.shell.escape import plain


@dataclass(frozen=True)
class _Models:
    """The networks that answer: a teacher and, if there is a run, its student and control."""

    snap: Snapshot | None
    teacher: CachedTeacher | MeanTeacher

    def architecture(self, name: str) -> str:
        """Return the architecture of "teacher", "student" or "control"."""
        if name == "teacher":
            return self.teacher.architecture
        return runs.load(self.snap.id).architecture if self.snap.saved else self.snap.config.student


def show() -> None:
    """Draw the whole page."""
    st.title("Draw a digit and compare the answers", anchor=False)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = _run_choice()
        temperature = st.slider(
            "Temperature",
            1.0,
            20.0,
            1.0,
            0.5,
            key="draw_temperature",
            format="%.1f",
            help=(
                "Divides all logits before the softmax. At 1 you see the answer; higher shows its "
                "uncertainty."
            ),
        )
    try:
        snap = snapshots.find(chosen)
        models = _Models(snap, teachers.find(snap.config.teacher if snap else MNIST.teacher))
    except UserError as error:
        st.error(plain(error))
        return
    left, right = st.columns([2, 3], gap="medium")
    with left:
        way = _way()
        picture = {"Draw": _drawn, "Test set": _from_test_set, "Upload": _uploaded}[way](models)
        if picture is not None:
            thumbnails.model_view(picture)
    with right:
        # A widget's bounds are enforced by the browser alone.
        _answers(picture, models, min(20.0, max(1.0, temperature)))
        if picture is not None and way != "Test set":
            _keep_form(picture)


def _run_choice() -> str | None:
    """Draw the choice of the run whose student answers; return its id, or None if there is none."""
    stored = [run for run in runs.list_runs()[0] if run.about.leaves_student and "student" in run.models]
    stored.sort(key=lambda run: run.brief)  # the first is shown, and is to have learned something
    choices = names.distinct({run.id: run.name for run in stored})
    shown = snapshots.shown_run()
    live = snapshots.in_memory(shown) if shown else None
    if live is not None and live.kind == "distil" and live.id not in choices and (live.active or live.rows):
        choices = {
            live.id: f"{live.config.student}, {'training now' if live.active else live.state}"
        } | choices
    if not choices:
        st.info("There is no student yet, so the teacher answers alone. Distil one on the **Distil** page.")
        return None
    return st.selectbox(
        "Model",
        list(choices),
        index=list(choices).index(shown) if shown in choices else 0,
        format_func=choices.get,
        help="The student of a stored run, or of the one in training.",
    )


# -- the picture -------------------------------------------------------------------------


def _way() -> str:
    return (
        st.segmented_control(
            "Picture",
            ["Draw", "Test set", "Upload"],
            default="Draw",
            key="draw_way",
            label_visibility="collapsed",
        )
        or "Draw"
    )


def _drawn(models: _Models) -> np.ndarray | None:
    st.caption("Point at the canvas for undo, redo and clear.")
    return canvas("draw")


def _from_test_set(models: _Models) -> np.ndarray | None:
    test, snap = shared.manager().source.mnist().test, models.snap
    comparable = snap is not None and snap.saved
    order = st.radio(
        "Order",
        ["as in MNIST", "most disagreement first"] if comparable else ["as in MNIST"],
        horizontal=True,
        help=("By KL(teacher || student): the pictures on which student and teacher differ most come first."),
    )
    places: Sequence[int] = range(len(test))
    if order.startswith("most"):
        places = _most_disagreed(snap.id, models.teacher.name, shared.source())
    place = st.number_input(f"Picture 1 to {len(places):,}", value=1, step=1)
    if not 1 <= place <= len(places):
        st.error(f"Choose a number from 1 to {len(places):,}, not {plain_number(place)}.")
        return None
    number = places[place - 1]
    st.caption(f"Its label is **{int(test.labels[number])}**.")
    return test.images[number].cpu().numpy()


def _uploaded(models: _Models) -> np.ndarray | None:
    file = st.file_uploader(
        "A picture of one digit, up to 5 MB",
        type=["png", "jpg", "jpeg", "webp", "bmp", "gif"],
        disabled=visitor.forgotten(),
    )
    if file is None:
        return None
    try:
        ink = uploads.ink_from_picture(file.getvalue())
    except UserError as error:
        st.error(plain(error))
        return None
    picture = preprocess.prepare(ink)
    if picture is None:
        st.warning(preprocess.NO_DIGIT)
    elif oddities.has_lines(ink):
        st.warning(oddities.WARNINGS["lines"])
    return picture


@st.cache_data(show_spinner="Comparing on all test pictures…", max_entries=16)
def _most_disagreed(run_id: str, teacher_name: str, source: str, count: int = 100) -> list[int]:
    """Return the test pictures with the largest KL(teacher || student), largest first."""
    test = shared.manager().source.mnist().test
    teacher = shared.manager().teacher(teacher_name).logits(test.to(training_device())).cpu().log_softmax(1)
    student = inference.logits_in_chunks(
        snapshots.stored_model(run_id, "student"), test.inputs(), 512
    ).log_softmax(1)
    return (teacher.exp() * (teacher - student)).sum(1).topk(min(count, len(test))).indices.tolist()


# -- the answers -------------------------------------------------------------------------


def _answers(picture: np.ndarray | None, models: _Models, temperature: float) -> None:
    if picture is None:
        st.info("**Draw a digit** with the mouse or a finger, or take a picture from the test set or a file.")
        return
    snap = models.snap
    result = answers.answer(picture, snap, models.teacher.name)
    answers.warn(result)
    answers.show(
        result.logits,
        temperature,
        "draw_answers",
        apart=True,
        captions={role: _speed(models.architecture(role)) for role in result.logits},
        live=(snap, picture) if snap is not None else None,
    )


def _speed(architecture: str) -> str:
    if shared.manager().busy():
        return "Latency is measured when nothing is training."
    took = _latency(architecture)
    return (
        f"{took.median * 1e6:,.0f} µs per image (median of {took.rounds} timings, IQR "
        f"{took.iqr * 1e6:,.0f} µs)"
    )


@st.cache_data(show_spinner="Measuring latency…", max_entries=64)
def _latency(architecture: str) -> Latency:
    """Measure the latency for one image. It depends on the architecture, not on the weights."""
    return measure_latency(registry.build(architecture, 0).eval())


# -- keeping a drawing -------------------------------------------------------------------


def _keep_form(picture: np.ndarray) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.selectbox(
            "This is a", range(MNIST.classes), index=None, placeholder="digit", key="keep_label", width=120
        )
        st.button(
            "Keep this drawing",
            key="keep",
            icon=":material/bookmark_add:",
            on_click=_keep,
            args=(picture,),
            help="Adds it to your personal test set, on which every run can be scored.",
        )


def _keep(picture: np.ndarray) -> None:
    try:
        count = drawings.keep(picture, st.session_state["keep_label"], visitor.token())
        notices.notify(
            "success",
            f"Kept. Your test set has {count} drawing{'s' if count > 1 else ''}; every run can be scored on "
            "it on the Runs page.",
        )
    except UserError as error:
        notices.notify("error", str(error))
    except TypeError:  # no label was chosen
        notices.notify("error", "Choose which digit you drew, and press Keep again.")
