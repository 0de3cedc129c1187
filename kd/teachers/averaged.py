"""Combine several teachers into one."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from kd.data.digits import Digits
from kd.errors import UserError
from kd.models import inference
from kd.objectives import Outputs
from kd.objectives.feature_matching import View
from kd.teachers.cached import CachedTeacher


class MeanTeacher:
    """Several teachers as one: each class's logit is the mean of theirs.

    At every temperature, its probabilities are the normalized geometric mean of those of the teachers. This
    is one of the two averages in Hinton, Vinyals & Dean 2015 (arXiv 1503.02531), section 2. The other, the
    arithmetic mean, has no logits that are valid at all temperatures, which methods and cache need.
    """

    def __init__(self, name: str, teachers: list[CachedTeacher]):
        self.name, self.parts = name, teachers
        self.architecture = "+".join(teacher.architecture for teacher in teachers)
        self.model = inference.Mean([teacher.model for teacher in teachers]).eval()
        self.digest = hashlib.sha256("".join(teacher.digest for teacher in teachers).encode()).hexdigest()

    def logits(self, digits: Digits) -> Tensor:
        """Return the mean logits of ``digits``, (N, 10), in their order."""
        return torch.stack([teacher.logits(digits) for teacher in self.parts]).mean(0)

    def outputs(self, digits: Digits, view: View) -> Outputs:
        """Refuse: several teachers have no common hidden layers.

        Raises:
            UserError: always.
        """
        raise UserError("Several teachers have no common hidden layers. Choose one teacher for this method.")

    def accuracy(self, digits: Digits) -> float:
        """Return the accuracy of the combined teacher on ``digits``, from 0 to 1."""
        return (self.logits(digits).argmax(1) == digits.labels).float().mean().item()

    def keep(self) -> None:
        """Save the logits of each teacher; see CachedTeacher.keep()."""
        for teacher in self.parts:
            teacher.keep()
