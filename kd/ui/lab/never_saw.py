"""The digit it never saw: leave digits out, distil, and correct the logits by an offset."""

from __future__ import annotations

import streamlit as st
import torch
from torch import Tensor

from kd.data.task import MNIST
from kd.device import training_device
from kd.figures import lab
from kd.jobs.snapshot import Snapshot
from kd.lab import never_saw
from kd.lab.settings import DIGITS, OFFSETS
from kd.metrics import class_offsets
from kd.ui.drawing import answers
from kd.ui.drawing.canvas import canvas
from kd.ui.lab import frame, running
from kd.ui.run import snapshots, titles
from kd.ui.shell import shared
from kd.ui.shell.error_boundary import plainly


def show() -> None:
    st.markdown(
        "Leave a digit out of everything that the student is trained on. It learns from the teacher's soft "
        "targets alone. The teacher's answers for 2s, 5s and 8s contain a little '3', so the student learns "
        "what a **3** looks like *without ever seeing one*. It also learns that 3s are rare, so an "
        "**offset** has to raise its logit of the 3. The control, an identical network trained on labels, "
        "never hears about 3s ([Hinton, Vinyals & Dean 2015](https://arxiv.org/abs/1503.02531), section 3)."
    )
    omitted = frame.FORM.widget(st.pills, "omitted", options=list(DIGITS), selection_mode="multi")
    with st.container(horizontal=True):
        for name, digits in never_saw.PRESETS.items():
            st.button(name, key=f"lab_preset_{digits}", on_click=frame.FORM.put, kwargs={"omitted": digits})
    with st.container(horizontal=True, vertical_alignment="bottom"):
        student = frame.FORM.widget(
            st.segmented_control, "student", options=list(never_saw.EPOCHS), required=True
        )
        seed = frame.FORM.widget(st.number_input, "seed", width=140)
    snap = running.SHARED.find()
    running.buttons(running.SHARED, never_saw.recipe(student, omitted, seed) if omitted else None, snap)
    if snap is None or snap.kind != "distil" or not snap.config.omitted:
        st.info(
            f"Press **Start**: a student and its control learn without any {_listed(omitted)}, and the bars "
            "show how many of each digit they recognise."
            if omitted
            else "Choose at least one digit to leave out, then press **Start**."
        )
        return
    st.caption(titles.title(snap))
    _with_an_offset(snap)
    if not snap.active:
        _on_the_test_set(snap)


def _listed(omitted: str) -> str:
    return ", ".join(omitted)


@st.cache_resource(max_entries=24, show_spinner=False)
def _logits(run_id: str, version: int, part: str, source: str, _snap: Snapshot) -> dict[str, Tensor]:
    """Return logits of student and control on "glance", "validation" or "test", once for all viewers."""
    digits = getattr(shared.manager().source.mnist().to(training_device()), part)
    logits = snapshots.logits(_snap, digits.inputs())
    return {role: logits[role] for role in ("student", "control") if role in logits}


def _labels(part: str) -> Tensor:
    return getattr(shared.manager().source.mnist(), part).labels.cpu()


def _offsets(snap: Snapshot) -> dict[str, Tensor]:
    """Return the offsets (10,) of student and control, found in the chosen way."""
    chosen, omitted = frame.settings(), snap.config.omitted
    if chosen.offset_by == "frequency":
        return {
            role: never_saw.by_frequency(logits, omitted)
            for role, logits in _logits(snap.id, snap.version, "glance", shared.source(), snap).items()
        }
    if chosen.offset_by == "test" and not snap.active:
        return {
            role: class_offsets.by_labels(logits, _labels("test"), omitted)
            for role, logits in _logits(snap.id, snap.version, "test", shared.source(), snap).items()
        }
    offset = chosen.offset if chosen.offset_by == "hand" else 0.0
    return {role: never_saw.by_hand(omitted, offset) for role in ("student", "control")}


@st.fragment
@plainly()
def _with_an_offset(snap: Snapshot) -> None:
    """Show the offset, and everything that depends on it."""
    left, right = st.columns(2, gap="medium")
    with left:
        way = frame.FORM.widget(
            st.segmented_control, "offset_by", options=list(OFFSETS), format_func=OFFSETS.get, required=True
        )
    if way == "hand":
        with right:
            frame.FORM.widget(st.slider, "offset", format="%.1f")
    running.follow(running.SHARED, snap, _bars)
    _draw(snap)
    frame.write_link()


def _bars(snap: Snapshot) -> None:
    omitted = snap.config.omitted
    models = _logits(snap.id, snap.version, "glance", shared.source(), snap)
    if not models:
        return
    labels, moved = _labels("glance"), _offsets(snap)
    before = {role: never_saw.recall(logits, labels) for role, logits in models.items()}
    now = {role: never_saw.recall(logits + moved[role], labels) for role, logits in models.items()}
    out = [int(digit) for digit in omitted]
    spoken = ", ".join(
        f"{role} {now[role][out].mean():.0%} ({before[role][out].mean():.0%} before correction)"
        for role in now
    )
    frame.chart(
        lab.recall_bars(now, before, omitted),
        "recall",
        f"Never-seen digits recognised: {spoken}.",
        "never-saw",
    )
    st.markdown(f"Never-seen **{_listed(omitted)}** recognised: {spoken}.")
    _explain(frame.settings().offset_by, moved, omitted, snap)


def _explain(way: str, moved: dict[str, Tensor], omitted: str, snap: Snapshot) -> None:
    """Say how the offsets were found, and what they are."""
    sizes = "; ".join(
        f"{role} " + ", ".join(f"{digit}: {moved[role][int(digit)]:+.1f}" for digit in omitted)
        for role in moved
    )
    if way == "hand":
        st.caption("The offset is added to the logits of the digits left out, for student and control alike.")
    elif way == "frequency":
        st.caption(
            "Chosen without labels: raised until the mean probability of each digit left out, over "
            f"{len(_labels('glance')):,} unlabelled validation images, is 10%, its frequency in the data. "
            f"{sizes}."
        )
    elif snap.active:
        st.caption(
            "When the run has ended, the app finds the single offset with the fewest errors on the test set."
        )
    else:
        st.caption(
            "**Chosen on the test set**, with its labels, as in the paper: the test errors below are "
            f"therefore optimistic. {sizes}."
        )


@st.fragment
@plainly()
def _draw(snap: Snapshot) -> None:
    digit = snap.config.omitted[0]
    st.header(f"Draw a {digit}", anchor=False)
    left, right = st.columns([2, 3], gap="medium")
    with left:
        picture = canvas("lab")
        frame.write_link()
    with right:
        if picture is None:
            st.info(f"Draw a **{digit}**: a student that never saw one answers, with the offset set above.")
            return

        def answer() -> None:
            now = snapshots.find(snap.id)
            shown = answers.answer(picture, now, snap.config.teacher)
            moved = _offsets(now) if len(shown.logits) > 1 else {}
            answers.show(
                {role: logits + moved.get(role, 0) for role, logits in shown.logits.items()},
                1.0,
                "lab_answers",
            )
            answers.warn(shown)

        st.fragment(plainly()(answer), run_every=snap.pace if snap.active else None)()


@st.cache_data(max_entries=24, show_spinner="Evaluating on the test set…")
def _test_errors(run_id: str, source: str, _snap: Snapshot) -> list[dict[str, str]]:
    """Return a row for each way of choosing the offset."""
    omitted, labels = _snap.config.omitted, _labels("test")
    logits = _logits(run_id, _snap.version, "test", source, _snap)
    unlabelled = _logits(run_id, _snap.version, "validation", source, _snap)
    ways = {
        "no offset": lambda role: torch.zeros(MNIST.classes),
        "by class frequency": lambda role: never_saw.by_frequency(unlabelled[role], omitted),
        "chosen on the test set": lambda role: class_offsets.by_labels(logits[role], labels, omitted),
    }
    rows = []
    for way, find in ways.items():
        errors = {role: never_saw.errors(logits[role] + find(role), labels, omitted) for role in logits}
        rows.append(
            {"offset": way}
            | {
                f"{role}, {name}": count
                for role in errors
                for name, count in zip(("all", "left out"), errors[role])
            }
        )
    return rows


def _on_the_test_set(snap: Snapshot) -> None:
    rows = _test_errors(snap.id, shared.source(), snap)
    labels = _labels("test")
    out = int(torch.isin(labels, torch.tensor([int(digit) for digit in snap.config.omitted])).sum())
    st.header("Errors on the test set", anchor=False)
    st.dataframe(rows, hide_index=True, width="stretch")
    student = "The paper's student with two layers of 800 units made"
    paper = {
        "3": (
            f"{student} 206 errors, 133 of them on threes; with an offset chosen on the test set, it made "
            "109, 14 of them on threes."
        ),
        "01234569": f"{student} 47.3% errors, or 13.2% with an offset chosen on the test set.",
    }.get(snap.config.omitted, "")
    st.caption(f"{out:,} of the {len(labels):,} test images show a digit that was left out. {paper}")
