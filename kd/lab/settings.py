"""The settings of the lab's page, which its link restores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kd.config import fields
from kd.config.base import Settings
from kd.config.distil import checked_omitted
from kd.config.fields import setting
from kd.data.task import MNIST
from kd.lab.corruptions import CORRUPTIONS
from kd.lab.never_saw import EPOCHS

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
#: Kind of run -> the settings with which the page shows a run of it, from the run's config.
SHOWING: dict[str, Callable[[Any], dict[str, str]]] = {
    "study": lambda config: {"panel": STUDY_PANELS[config.study]},
    "mistake": lambda config: {"panel": "break-it", "mistake": config.mistake},
}
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
    temperature: float = fields.temperature(4.0)
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
    omitted: str = fields.omitted("3")
    student: str = fields.student(
        "mlp-128", "A larger one comes closer to the paper and takes longer.", choices=tuple(EPOCHS)
    )
    seed: int = fields.seed()
    seeds: int = fields.seeds(3)
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
    mistake: str = fields.mistake()
    break_temperature: float = fields.temperature(8.0, "It is that of the training.")
    labels: int = fields.labels(100)
    soft_weight: float = fields.soft_weight(0.5)
    corruption: str = setting(
        "rotated", "Corruption", "How the test digits are changed.", choices=tuple(CORRUPTIONS)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "omitted", checked_omitted(self.omitted))
