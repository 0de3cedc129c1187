"""Soft targets: the teacher's answer to one image, to images that look like another digit, and to a class."""

from __future__ import annotations

import numpy as np
import streamlit as st
import torch
from torch import Tensor

from kd.data.digits import Digits
from kd.data.task import MNIST
from kd.device import training_device
from kd.figures import lab, training
from kd.lab import pictures, soft_targets
from kd.lab.settings import DIGITS, PICTURES
from kd.ui.drawing import answers, thumbnails
from kd.ui.drawing.canvas import canvas
from kd.ui.lab import frame
from kd.ui.run import teachers
from kd.ui.shell import shared
from kd.ui.shell.error_boundary import plainly

STRIP = 12  # images in a row
DOUBTFUL = 100  # number of test images offered as ambiguous examples


@st.fragment
@plainly()
def show() -> None:
    st.markdown(
        "A label only says '**2**'. The teacher also says how 3-like and 7-like it is – but at *T* = 1 "
        "those numbers are too tiny to learn from. Dividing the logits by a **temperature** makes them "
        "large enough to teach with. The student then learns what no label says: *this 2 is shaped a little "
        "like a 3, that one like a 7* ([Hinton, Vinyals & Dean 2015](https://arxiv.org/abs/1503.02531), "
        "sections 1 and 2)."
    )
    temperature = frame.FORM.widget(st.slider, "temperature", format="%.1f")
    _one_image(temperature)
    mnist = shared.manager().source.mnist().to(training_device())
    logits, labels = (
        teachers.find(MNIST.teacher).logits(mnist.validation).cpu(),
        mnist.validation.labels.cpu(),
    )
    _gallery(mnist.validation, logits, labels, temperature)
    _classes(logits, labels, temperature)
    frame.write_link()


def _one_image(temperature: float) -> None:
    st.header("One image", anchor=False)
    left, middle, right = st.columns([2, 4, 4], gap="medium")
    with left:
        picture, logits = _picture()
    if logits is None:
        with middle:
            st.info("**Draw a digit** with the mouse or a finger; the teacher says what it sees in it.")
        return
    targets = soft_targets.soft_targets(logits, temperature)
    spoken = ", ".join(
        f"{'an' if digit == 8 else 'a'} {digit} ({targets[digit]:.0%})"
        for digit in targets.topk(3).indices.tolist()
    )
    with middle:
        frame.chart(
            training.bars({"teacher": logits}, temperature),
            "bars",
            f"The teacher at temperature {temperature:g}: {spoken}.",
            "soft-target",
        )
    with right:
        frame.chart(
            lab.entropy_curve(logits, temperature),
            "entropy",
            f"Entropy by temperature; {_bits(targets)} at T = {temperature:g}.",
            "entropy",
        )
    st.caption(
        f"At T = {temperature:g} the teacher sees {spoken}. Uncertainty: {_bits(targets)} (a label: 0, pure "
        "guessing: 3.32)."
    )


def _bits(targets: Tensor) -> str:
    return f"{soft_targets.entropy(targets):.2f} bits"


def _picture() -> tuple[np.ndarray | None, Tensor | None]:
    """Return the chosen picture and the teacher's logits (10,) for it; None for both if there is none."""
    way = frame.FORM.widget(
        st.segmented_control,
        "picture",
        options=list(PICTURES),
        format_func=PICTURES.get,
        required=True,
        label_visibility="collapsed",
    )
    if way == "draw":
        picture = canvas("lab")
        return picture, None if picture is None else answers.answer(picture, None, MNIST.teacher).logits[
            "teacher"
        ]
    test = shared.manager().source.mnist().to(training_device()).test
    place = min(frame.settings().image, len(test) - 1)  # the sample has fewer images
    logits = teachers.find(MNIST.teacher).logits(test.take(slice(place, place + 1))).cpu()[0]
    picture = test.images[place].cpu().numpy()
    thumbnails.model_view(picture)
    st.caption(f"Labelled **{int(test.labels[place])}**")
    frame.FORM.widget(st.number_input, "image")
    st.button(
        "Ambiguous example",
        key="lab_doubtful",
        icon=":material/casino:",
        on_click=_next_doubtful,
        args=(place,),
        help=f"Shows the next of the {DOUBTFUL} test images about which the teacher is least sure.",
    )
    return picture, logits


def _next_doubtful(place: int) -> None:
    test = shared.manager().source.mnist().to(training_device()).test
    order = soft_targets.most_doubtful(teachers.find(MNIST.teacher).logits(test).cpu(), DOUBTFUL).tolist()
    frame.FORM.put(image=order[(order.index(place) + 1) % len(order)] if place in order else order[0])


def _gallery(digits: Digits, logits: Tensor, labels: Tensor, temperature: float) -> None:
    st.header("Which 2 looks like a 3, which like a 7?", anchor=False)
    digit = int(frame.FORM.widget(st.segmented_control, "digit", options=list(DIGITS), required=True))
    alike = soft_targets.look_alikes(logits, labels, digit, temperature)
    st.caption(
        f"For each other digit: the {digit} (of {int((labels == digit).sum())} unseen ones) that the teacher "
        "finds most like it."
    )
    _images(
        digits,
        [place for place, _ in alike.values()],
        [f"{like}: {share:.0%}" for like, (_, share) in alike.items()],
    )
    others = [name for name in DIGITS if int(name) != digit]
    like = frame.settings().like
    if like not in others:
        frame.FORM.put(like=others[0])
    like = int(frame.FORM.widget(st.segmented_control, "like", options=others, required=True))
    places, shares = soft_targets.most_like(logits, labels, digit, like, temperature, len(labels))
    # From the most to the least alike, in even steps.
    steps = (
        torch.linspace(0, len(places) - 1, STRIP).round().long()
        if len(places) > STRIP
        else torch.arange(len(places))
    )
    first, even = places[:STRIP], places[steps]
    st.caption(f"The {STRIP} that are most {like}-like at T = {temperature:g}:")
    _images(digits, first.tolist(), [f"{share:.0%}" for share in shares[:STRIP].tolist()])
    st.caption(f"From most to least {like}-like:")
    _images(digits, even.tolist(), [f"{share:.1%}" for share in shares[steps].tolist()])
    together = digits.images[
        torch.cat([torch.tensor([place for place, _ in alike.values()], dtype=torch.long), first, even])
    ]
    st.download_button(
        "Picture",
        pictures.png(pictures.sheet(together, STRIP, 128).cpu().numpy(), 4),
        f"which-{digit}-looks-like.png",
        "image/png",
        key="lab_gallery_picture",
        icon=":material/download:",
        type="tertiary",
        on_click="ignore",
    )


def _images(digits: Digits, places: list[int], captions: list[str]) -> None:
    thumbnails.row(list(digits.images[places].cpu().numpy()), captions)


def _classes(logits: Tensor, labels: Tensor, temperature: float) -> None:
    st.header("Every digit on average", anchor=False)
    averages = soft_targets.class_averages(logits, labels, temperature)
    st.caption(
        f"The mean soft target of each digit's validation images at T = {temperature:g}: each row is one "
        "digit."
    )
    away = averages.clone().fill_diagonal_(0).nan_to_num()
    row, column = divmod(int(away.argmax()), len(away))
    frame.chart(
        lab.class_heat_map(averages),
        "classes",
        f"The largest confusion: {row} is {away[row, column]:.1%} {column}-like.",
        "soft-targets-by-digit",
    )
