"""Break it: the classic mistakes in distillation code, one at a time, next to correct code."""

from __future__ import annotations

import streamlit as st

from kd.config.mistake import MistakeConfig
from kd.figures import lab
from kd.jobs.snapshot import Snapshot
from kd.objectives.mistakes import MISTAKES
from kd.ui.lab import frame, running
from kd.ui.run import titles


def show() -> None:
    st.markdown(
        "Six classic bugs in distillation code. None raises an error: training goes on, the loss falls, and "
        "the student is merely worse than it could be. Choose one: three copies of a network, with the same "
        "initial weights and the same batches, learn side by side, one with **correct code**, one with the "
        "**mistake**, and a **control** from labels alone. The second chart compares the gradient of the "
        "soft targets: its length with the mistake, divided by its length with correct code ([Hinton, "
        "Vinyals & Dean 2015](https://arxiv.org/abs/1503.02531), section 2)."
    )
    frame.FORM.widget(
        st.segmented_control,
        "mistake",
        options=list(MISTAKES),
        format_func=lambda name: MISTAKES[name].title,
        required=True,
    )
    chosen = frame.settings()
    mistake = MISTAKES[chosen.mistake]
    wrong, right = st.columns(2)
    wrong.caption("The mistake")
    wrong.code(mistake.code, language="python", wrap_lines=True)
    right.caption("Correct code")
    right.code(mistake.right, language="python", wrap_lines=True)
    st.markdown(mistake.told)
    left, middle, right = st.columns(3)
    with left:
        temperature = frame.FORM.widget(st.slider, "break_temperature")
    with middle:
        soft_weight = frame.FORM.widget(st.slider, "soft_weight")
    with right:
        labels = frame.FORM.widget(st.number_input, "labels")
    snap = running.OWN.find()
    if snap is not None and (snap.kind != "mistake" or snap.config.mistake != mistake.name):
        snap = None
    running.buttons(
        running.OWN,
        MistakeConfig(mistake=mistake.name, temperature=temperature, soft_weight=soft_weight, labels=labels),
        snap,
    )
    if snap is None:
        slow = (
            " This one takes a minute, because the teacher recomputes its outputs for each batch."
            if mistake.name == "train-mode"
            else ""
        )
        st.info(f"Press **Start** to see what the mistake costs.{slow}")
        return
    st.caption(titles.title(snap) + ".")
    running.follow(running.OWN, snap, _charts)


def _charts(snap: Snapshot) -> None:
    if not snap.rows:
        return
    frame.charts(_packed(snap.id, snap.version, snap), "break_it")
    last = snap.rows[-1]
    right, mistaken, control = (last[f"validation {role}"] for role in lab.TAUGHT)
    st.markdown(
        f"Validation accuracy: **{right:.2%}** with correct code, **{mistaken:.2%}** with the mistake "
        f"({100 * (mistaken - right):+.2f} points), {control:.2%} from labels alone. The mistake's gradient "
        f"is **{last['gradient ratio']:.3g} times** as long as that of correct code."
    )
    st.caption(
        "This is one seed. On MNIST, differences under about 0.3 points are noise, and with all labels most "
        "of these mistakes make no visible difference. Dots are measured on all validation images, the rest "
        "of each line on 1,000 of them."
    )


@st.cache_resource(max_entries=16, show_spinner=False)
def _packed(run_id: str, version: int, _snap: Snapshot) -> bytes:
    last, epochs = _snap.rows[-1], _snap.config.epochs
    spoken = ", ".join(f"{name} {1 - last[f'validation {role}']:.2%}" for role, name in lab.TAUGHT.items())
    return frame.pack(
        {
            "mistake-cost": (
                lab.wrong_shares(_snap.rows, epochs),
                f"Validation error: {spoken}.",
            ),
            "mistake-gradient": (
                lab.gradient_ratio(_snap.rows, epochs),
                f"Gradient size with the mistake, relative to correct code: {last['gradient ratio']:.3g}.",
            ),
        }
    )
