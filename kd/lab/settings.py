"""All that the lab's page can be set to, and that its link restores."""

from __future__ import annotations

from dataclasses import dataclass

from kd.config.base import Settings, setting
from kd.config.distil import checked_omitted
from kd.data.task import MNIST
from kd.lab.corruptions import CORRUPTIONS
from kd.lab.never_saw import EPOCHS
from kd.objectives.mistakes import MISTAKES

#: Name in the link -> name on the page, in the order of the page.
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
STUDY_PANELS = {
    "labels": "label-budget",
    "noise": "wrong-labels",
}  # study of a sweep -> the panel that shows it
PICTURES = {"test": "Test set", "draw": "Draw"}
OFFSETS = {"hand": "by hand", "frequency": "by class frequency", "test": "as the paper did, on the test set"}
DIGITS = MNIST.class_names


@dataclass(frozen=True, kw_only=True)
class LabSettings(Settings):
    """What the page shows, beside the run."""

    panel: str = setting("soft-targets", "Experiment", "What the page shows.", choices=tuple(PANELS))
    temperature: float = setting(
        4.0,
        "Temperature",
        "Softens the teacher's answers: at 1 nearly one-hot, higher shows what else it saw.",
        1.0,
        20.0,
        0.5,
    )
    picture: str = setting(
        "test", "Picture", "A digit of the test set, or one that you draw.", choices=tuple(PICTURES)
    )
    image: int = setting(
        1790, "Test image", "Its number in MNIST's test set, from 0.", 0, MNIST.test_images - 1, 1
    )
    digit: str = setting("2", "Digit", "Whose images are searched.", choices=DIGITS)
    like: str = setting(
        "3", "That looks like a", "What the teacher should see in them beside.", choices=DIGITS
    )
    omitted: str = setting("3", "Left out", "Digits that neither student nor control is trained on.")
    student: str = setting(
        "mlp-128",
        "Student",
        "A larger one gets nearer to the paper, and takes longer.",
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
        3, "Seeds", "How often all is done again, with other initial weights and other images.", 1, 20, 1
    )
    offset_by: str = setting(
        "hand", "Offset", "How the logits of the digits left out are raised.", choices=tuple(OFFSETS)
    )
    offset: float = setting(
        0.0,
        "Offset by hand",
        "Added to the logits of the digits left out, as if their biases were larger.",
        -20.0,
        20.0,
        0.5,
    )
    mistake: str = setting("no-t2", "Mistake", "What is done wrong.", choices=tuple(MISTAKES))
    break_temperature: float = setting(
        8.0, "Temperature", "Softens the answers of teacher and students in training.", 1.0, 20.0, 0.5
    )
    labels: int = setting(
        100,
        "Labels",
        "How many training images have a label. With few the teacher matters more. 0: all have one.",
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
        "rotated", "Corruption", "What is done to the test digits.", choices=tuple(CORRUPTIONS)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "omitted", checked_omitted(self.omitted))
