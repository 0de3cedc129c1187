"""The fixed settings of a training, and the records that it yields."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from kd.errors import UserError

WARM_UP = 0.2  # the fraction of steps during which the learning rate rises


@dataclass(frozen=True)
class Plan:
    """The settings that stay fixed during a training.

    Attributes:
        epochs: passes over the training images.
        batch_size: images per step.
        learning_rate: the highest one; see learning_rate_at().
        seed: determines the order of the images and their augmentation.
        augmentation: a name in AUGMENTATIONS.
        schedule: (step, setting, value) changes that take effect after that step.
        optimizer: a name in OPTIMIZERS.
        precision: a name in kd.training.forward_backward.PRECISIONS.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    augmentation: str = "none"
    schedule: tuple[tuple[int, str, float], ...] = field(default=())
    optimizer: str = "adamw"
    precision: str = "float32"


@dataclass(frozen=True)
class Record:
    """One point of the charts.

    Attributes:
        step: optimizer steps done.
        steps: optimizer steps in the whole training.
        epoch: epochs done.
        seconds: time spent on training and evaluation, without pauses.
        images_per_second: throughput since the last record.
        losses: the mean of each loss term since the last record, keyed by "<learner> <term>".
        train_accuracy: accuracy on the labelled images since the last record (0 to 1), by learner.
        validation_accuracy: accuracy on validation images (0 to 1), by learner.
        whole_validation: whether accuracy and fidelity are measured on all validation images or on a
            fixed subset.
        fidelity: agreement and KL divergence with the teacher, and calibration error, on the same
            images; keyed by "agreement <learner>", "kl <learner>" and "ece <learner>".
    """

    step: int
    steps: int
    epoch: float
    seconds: float
    images_per_second: float
    losses: Mapping[str, float]
    train_accuracy: Mapping[str, float]
    validation_accuracy: Mapping[str, float]
    whole_validation: bool
    fidelity: Mapping[str, float] = field(default_factory=dict)

    def row(self) -> dict[str, float]:
        """Return the record as one flat row of metrics.csv."""
        return {
            "step": self.step,
            "epoch": self.epoch,
            "seconds": self.seconds,
            "images_per_second": self.images_per_second,
            **{f"loss {name}": value for name, value in self.losses.items()},
            **{f"train {name}": value for name, value in self.train_accuracy.items()},
            **{f"validation {name}": value for name, value in self.validation_accuracy.items()},
            **self.fidelity,
            "whole_validation": float(self.whole_validation),
        }


class Diverged(UserError):
    """A loss or a weight is not finite. The models' weights have been reset to those of the last record."""


def learning_rate_at(step: int, steps: int, peak: float) -> float:
    """Return the learning rate of a step: a linear rise to ``peak``, then a cosine decay to 0.

    Args:
        step: from 0 to ``steps`` - 1.
        steps: steps in the whole training; the learning rate rises during the first 20%.
        peak: the highest learning rate.
    """
    rise = max(1, round(WARM_UP * steps))
    if step < rise:
        return peak * (step + 1) / rise
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rise + 1) / (steps - rise + 1)))


def every_epoch(step: int) -> bool:
    """Request no records except those at the end of each epoch."""
    return False


def changes_after(step: int, schedule: tuple[tuple[int, str, float], ...]) -> dict[str, float]:
    """Return the settings that a schedule changes right after ``step`` steps."""
    return {name: value for when, name, value in schedule if when == step}
