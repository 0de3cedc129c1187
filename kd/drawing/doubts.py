"""Say why the networks' answers to a drawing deserve doubt."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from kd.data.task import MNIST
from kd.drawing import oddities

#: A student that is at least this sure of another class than its teacher's is flagged.
SURE = 0.9


def not_one_digit(pixels: np.ndarray, is_digit: bool, ink: np.ndarray | None = None) -> str | None:
    """Return a warning if an image does not show one digit, otherwise None.

    Args:
        pixels: (28, 28) uint8, as the networks see it.
        is_digit: whether it looks like a digit to the teacher; see kd.drawing.familiarity.
        ink: (H, W) float32, a picture's ink, to recognize ruled paper; None for a drawing.
    """
    odd = oddities.oddity(pixels, ink) or (None if is_digit else "unfamiliar")
    return oddities.WARNINGS[odd] if odd else None


def contradiction(logits: Mapping[str, Tensor]) -> str | None:
    """Return a warning if the student is sure of another class than its teacher's, otherwise None.

    Args:
        logits: raw logits (10,) of each model, by "teacher", "student", "control".
    """
    if "teacher" not in logits or "student" not in logits:
        return None
    shares = logits["student"].double().softmax(0)
    student, teacher = int(shares.argmax()), int(logits["teacher"].argmax())
    if student == teacher or shares[student] < SURE:
        return None
    names = MNIST.class_names
    return (
        f"The student is {shares[student]:.0%} sure that it is {names[student]}, but its teacher sees "
        f"{names[teacher]}: at least one of them is wrong."
    )
