"""Say why nothing useful can be learned from a teacher, judged by its logits."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from kd.data.digits import Digits
from kd.teachers.averaged import MeanTeacher
from kd.teachers.cached import CachedTeacher

#: Logits this far from their mean, for most images, are as good as labels: softened at T = 20, the highest
#: temperature, the other classes share less than 1/2,000. Those of the shipped teachers are below 20.
LARGE = 200.0
#: Logits whose distances vary less than this from image to image say the same of every image.
CONSTANT = 1e-3


def about(logits: Tensor, name: str) -> str:
    """Return a sentence on what is wrong with a teacher; "" if nothing is.

    Args:
        logits: (N, C) of images of several classes.
        name: what to call the teacher.
    """
    if not logits.isfinite().all():
        return f"The logits of the teacher {name} are not finite, so training would diverge. {_CHOOSE}"
    centred = logits.double() - logits.double().mean(1, keepdim=True)  # softmax depends on differences only
    if centred.std(0).max() < CONSTANT:
        return (
            f"The teacher {name} gives the same answer for every image, so a student learns nothing from "
            f"it. {_CHOOSE}"
        )
    size = centred.abs().amax(1).median().item()
    if size >= LARGE:
        return (
            f"The logits of the teacher {name} are very large (about {size:,.0f}; usual are 5 to 20). Even "
            f"at T = 20 its answers are as certain as labels, and methods that match logits or hidden layers "
            f"may diverge. {_CHOOSE}"
        )
    return ""


_CHOOSE = "Choose another teacher, or train this one again with a lower learning rate."


def of(
    teacher: CachedTeacher | MeanTeacher | None, digits: Digits, called: Callable[[str], str] = str
) -> str:
    """Return sentences on what is wrong with a teacher, or with any of several; "" if nothing is.

    Args:
        teacher: the teacher, or None.
        digits: images of several classes; the teacher's logits for them are kept.
        called: returns what to call a teacher of this name.
    """
    parts = teacher.parts if teacher else []
    return " ".join(filter(None, (about(part.logits(digits), called(part.name)) for part in parts)))
