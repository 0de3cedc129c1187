"""The fields of settings: setting() makes one, and each field that several classes have is one function.

Fields that are named like a term of the glossary say what the term means in the glossary's words.
"""

from __future__ import annotations

from dataclasses import field
from typing import Any

from kd.config.glossary import TERMS
from kd.data.task import MNIST
from kd.objectives.mistakes import MISTAKES
from kd.training.forward_backward import PRECISIONS
from kd.training.optimizers import OPTIMIZERS


def setting(
    default: Any,
    label: str,
    help: str,
    low: float | None = None,
    high: float | None = None,
    step: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """Return a dataclass field for Settings.

    A number has a range, from ``low`` to ``high``, and the ``step`` of its widget; a name has ``choices``.
    """
    return field(
        default=default,
        metadata={"label": label, "help": help, "low": low, "high": high, "step": step, "choices": choices},
    )


def explained(term: str, more: str = "") -> str:
    """Return what the glossary says about a term, and then ``more``."""
    return f"{TERMS[term]} {more}".rstrip()


# -- who learns from whom, and how -----------------------------------------------------------


def student(default: str, more: str = "", label: str = "Student", choices: tuple[str, ...] = ()) -> Any:
    """Return the field of the student's architecture; ``more`` is added to its help."""
    return setting(default, label, explained("student", more), choices=choices)


def teacher(more: str = "") -> Any:
    """Return the field of the teacher's name; ``more`` is added to its help."""
    return setting(MNIST.teacher, "Teacher", explained("teacher", more))


def method(label: str = "Method", more: str = "") -> Any:
    """Return the field of the method's name; ``more`` is added to its help."""
    return setting("hinton", label, explained("method", more))


def mistake() -> Any:
    """Return the field of the mistake that is made."""
    return setting("no-t2", "Mistake", "The mistake to make.", choices=tuple(MISTAKES))


def temperature(default: float, more: str = "") -> Any:
    """Return the field of the temperature; ``more`` is added to its help."""
    return setting(default, "Temperature", explained("temperature", more), 1.0, 20.0, 0.5)


def soft_weight(default: float) -> Any:
    """Return the field of the soft weight."""
    return setting(default, "Soft weight", explained("soft weight"), 0.0, 1.0, 0.05)


# -- what it learns from ---------------------------------------------------------------------


def labels(default: int) -> Any:
    """Return the field of the number of labels."""
    return setting(
        default,
        "Labels",
        "How many training images are labelled, the same number per digit. The student learns the teacher's "
        "answers for the others too. 0 means all.",
        0,
        MNIST.train_images,
        MNIST.classes,
    )


def omitted(default: str = "") -> Any:
    """Return the field of the digits that are left out."""
    return setting(
        default,
        "Left out",
        "Digits that neither student nor control is trained on, such as 3 or 0169. Empty: none.",
    )


def augmentation(default: str, images: str = "training images") -> Any:
    """Return the field of the augmentation of ``images``."""
    return setting(
        default,
        "Augmentation",
        f"How {images} vary: jitter shifts, affine also rotates, handwriting adds slashed zeros and other "
        "habits.",
    )


# -- how long and how ------------------------------------------------------------------------


def epochs(default: int, who: str = "training", most: int = 200, more: str = "") -> Any:
    """Return the field of the number of epochs of ``who``; ``more`` ends the sentence of its help."""
    return setting(
        default, "Epochs", f"How many times {who} goes through all the training images{more}.", 1, most, 1
    )


def batch_size() -> Any:
    """Return the field of the batch size."""
    return setting(
        128,
        "Batch size",
        "Images per optimizer step. Small batches learn more per image; large ones are faster.",
        1,
        4096,
        1,
    )


def learning_rate(default: float, help: str) -> Any:
    """Return the field of the learning rate."""
    return setting(default, "Learning rate", help, 1e-6, 1.0, 1e-4)


def optimizer() -> Any:
    """Return the field of the optimizer's name."""
    return setting(
        "adamw",
        "Optimizer",
        "adamw learns fast; sgd (with momentum) needs more epochs but often generalizes better.",
        choices=tuple(OPTIMIZERS),
    )


def precision() -> Any:
    """Return the field of the number format."""
    return setting(
        "float32",
        "Precision",
        "The number format of the multiplications. bfloat16 trains a CNN faster where the processor "
        "supports it.",
        choices=tuple(PRECISIONS),
    )


def seed(
    help: str = "Fixes the initial weights and the order of the images. The same seed gives the same run.",
    label: str = "Seed",
    most: int = 2**31 - 1,
) -> Any:
    """Return the field of the seed."""
    return setting(0, label, help, 0, most, 1)


def seeds(default: int, most: int = 20, others: str = "different initial weights and images") -> Any:
    """Return the field of the number of seeds."""
    return setting(default, "Seeds", f"How many times everything is trained, with {others}.", 1, most, 1)
