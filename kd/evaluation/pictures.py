"""A stored run's answers to pictures, with the warnings that the app gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from kd.data import digits
from kd.drawing import doubts, familiarity, preprocess, uploads
from kd.errors import UserError
from kd.models import inference


@dataclass(frozen=True)
class Answer:
    """The answers to one picture: raw logits (10,) by network, or what is wrong with the file."""

    logits: Mapping[str, Tensor] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    problem: str = ""  # why there are no answers; or empty


def answer(
    picture: bytes, models: Mapping[str, nn.Module], teacher: nn.Module, familiar: familiarity.Familiar
) -> Answer:
    """Return the networks' answers to the content of an image file.

    Args:
        models: the run's networks by name, on the CPU.
        teacher: answers too, unless the run trained a teacher itself.
        familiar: tells what looks like a digit to the teacher.
    """
    try:
        ink = uploads.ink_from_picture(picture)
    except UserError as error:
        return Answer(problem=str(error))
    pixels = preprocess.prepare(ink)
    if pixels is None:
        return Answer(problem=preprocess.NO_DIGIT)
    inputs = digits.normalize(torch.from_numpy(pixels).unsqueeze(0))
    logits = {
        name: inference.logits_in_chunks(model, inputs)[0]
        for name, model in {"teacher": teacher, **models}.items()
    }
    found = (doubts.not_one_digit(pixels, bool(familiar.knows(inputs)[0]), ink), doubts.contradiction(logits))
    return Answer(logits, tuple(filter(None, found)))
