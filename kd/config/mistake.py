"""The settings of a student that is taught with a classic mistake."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from kd.config.base import Settings, setting
from kd.config.kind import Kind
from kd.data.task import MNIST
from kd.objectives.mistakes import MISTAKES


@dataclass(frozen=True, kw_only=True)
class MistakeConfig(Settings):
    """Settings of a student that is taught with a mistake, next to one that is taught correctly.

    See kd.experiments.mistake.
    """

    _architectures: ClassVar = ("student",)

    mistake: str = setting("no-t2", "Mistake", "The mistake to make.", choices=tuple(MISTAKES))
    student: str = setting("mlp-128", "Student", "The architecture of all three networks.")
    teacher: str = setting(
        MNIST.teacher, "Teacher", "The trained network whose answers the students learn to match."
    )
    temperature: float = setting(
        8.0,
        "Temperature",
        "Softens the teacher's answers: nearly one-hot at 1; higher shows which other classes it considers.",
        1.0,
        20.0,
        0.5,
    )
    soft_weight: float = setting(
        0.5,
        "Soft weight",
        "Share of the loss that comes from the teacher; the rest comes from the labels.",
        0.0,
        1.0,
        0.05,
    )
    labels: int = setting(
        100,
        "Labels",
        "How many training images are labelled. The fewer, the more the teacher helps. 0 means all.",
        0,
        MNIST.train_images,
        MNIST.classes,
    )
    epochs: int = setting(3, "Epochs", "How many times all training images are seen.", 1, 50, 1)
    seed: int = setting(
        0,
        "Seed",
        "Fixes the initial weights and the order of the images. The same seed gives the same run.",
        0,
        2**31 - 1,
        1,
    )

    @property
    def total_epochs(self) -> int:
        return self.epochs


def _title(config: MistakeConfig, named: Callable[[str], str]) -> str:
    labels = f"{config.labels:,}" if config.labels else "all"
    return (
        f"{config.student} taught by {named(config.teacher)} with a mistake "
        f"({MISTAKES[config.mistake].title}), "
        f"T = {config.temperature:g}, soft weight {config.soft_weight:g}, "
        f"{labels} labels, {config.epochs} epochs, seed {config.seed}"
    )


def _default_name(config: MistakeConfig) -> str:
    return f"{config.student} taught with a mistake: {MISTAKES[config.mistake].title} ×{config.epochs}"


MISTAKE = Kind(
    name="mistake",
    config=MistakeConfig,
    experiment="kd.experiments.mistake:MistakeExperiment",
    help="teach a student with a classic mistake, next to one that is taught correctly",
    default_name=_default_name,
    title=_title,
    columns=("gradient ratio", "validation student", "validation mistaken", "validation control"),
    models=lambda config, measures: ("student", "mistaken", "control"),
    page="lab",
    elsewhere="is an experiment of another kind; the Dark knowledge page shows it",
)
