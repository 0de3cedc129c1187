"""The losses that students learn by: objectives, and the methods that consist of them."""

from __future__ import annotations

from kd.models.inference import Outputs
from kd.objectives.base import Method, Objective, Settings, Terms, cross_entropy, labels_only, soft_loss
from kd.objectives.exits import self_distillation
from kd.objectives.methods import METHODS
from kd.objectives.response import hinton

__all__ = [
    "METHODS",
    "Method",
    "Objective",
    "Outputs",
    "Settings",
    "Terms",
    "cross_entropy",
    "self_distillation",
    "hinton",
    "labels_only",
    "soft_loss",
]
