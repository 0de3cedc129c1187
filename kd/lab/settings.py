"""The settings of the lab's page, which its link restores."""

from __future__ import annotations

from dataclasses import dataclass

from kd.config.base import Settings, setting
from kd.config.distil import checked_omitted
from kd.data.task import MNIST
from kd.lab.corruptions import CORRUPTIONS
from kd.lab.never_saw import EPOCHS
from kd.objectives.mistakes import MISTAKES

#: Name in the link -> title on the page, in order.
PANELS = {
    "soft-targets": "Soft targets",
    "never-saw": "The digit it never saw",
    "label-budget": "How many labels?",
    "shift": "Noise and shift",
    "wrong-labels": "Wrong labels",
    "inside": "What did it learn?",
    "fidelity": "Fidelity",
    "break-it": "Break it",
}
#: Study -> the panel that shows it.
STUDY_PANELS = {"labels": "label-budget", "noise": "wrong-labels"}
PICTURES = {"test": "Test set", "draw": "Draw"}
OFFSETS = {
    "hand": "by hand",
    "frequency": "by class frequency",
    "test": "best on the test set (as in the paper)",
}
DIGITS = MNIST.class_names


@dataclass(frozen=True, kw_only=True)
class LabSettings(Settings):
    """The settings of the page's experiments; the run itself is not among them."""

    panel: str = setting("soft-targets", "Experiment", "What the page shows.", choices=tuple(PANELS))
    temperature: float = setting(
        4.0,
        "Temperature",
        "Softens the teacher's probabilities: at 1 they are nearly one-hot; higher shows other classes.",
        1.0,
        20.0,
        0.5,
    )
    picture: str = setting(
        "test", "Picture", "A digit from the test set, or one that you draw.", choices=tuple(PICTURES)
    )
    image: int = setting(
        1790, "Test image", "The image's index in MNIST's test set, from 0.", 0, MNIST.test_images - 1, 1
    )
    digit: str = setting("2", "Digit", "The digit whose images are searched.", choices=DIGITS)
    like: str = setting(
        "3", "That looks like a", "The other digit that the teacher should see in them.", choices=DIGITS
    )
    omitted: str = setting("3", "Left out", "Digits on which neither student nor control is trained.")
    student: str = setting(
        "mlp-128",
        "Student",
        "A larger student comes closer to the paper and takes longer.",
        choices=tuple(EPOCHS),
    )
    seed: int = setting(
        0,
        "Seed",
        "Fixes the initial weights and the order of the images. The same seed gives the same run.",
        0,
        2**31 - 1,
        1,
    )
    seeds: int = setting(
        3,
        "Seeds",
        "How many times everything is repeated, with different initial weights and images.",
        1,
        20,
        1,
    )
    offset_by: str = setting(
        "hand",
        "Offset",
        "How the offset for the logits of the omitted digits is chosen.",
        choices=tuple(OFFSETS),
    )
    offset: float = setting(
        0.0,
        "Offset by hand",
        "Added to the logits of the omitted digits, as if their biases were larger.",
        -20.0,
        20.0,
        0.5,
    )
    mistake: str = setting("no-t2", "Mistake", "The mistake to make.", choices=tuple(MISTAKES))
    break_temperature: float = setting(
        8.0,
        "Temperature",
        "Softens the probabilities of teacher and students during training.",
        1.0,
        20.0,
        0.5,
    )
    labels: int = setting(
        100,
        "Labels",
        "How many training images have a label. With few, the teacher matters more. 0: all of them.",
        0,
        MNIST.train_images,
        MNIST.classes,
    )
    soft_weight: float = setting(
        0.5,
        "Soft weight",
        "Share of the loss that comes from the teacher; the rest comes from the labels.",
        0.0,
        1.0,
        0.05,
    )
    corruption: str = setting(
        "rotated", "Corruption", "How the test digits are changed.", choices=tuple(CORRUPTIONS)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "omitted", checked_omitted(self.omitted))
