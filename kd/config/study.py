"""The settings of a study: many small trainings, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from kd.config.base import Settings, setting
from kd.config.kind import Kind, no_networks
from kd.data.task import MNIST


@dataclass(frozen=True, kw_only=True)
class StudyConfig(Settings):
    """Settings of many small trainings, each a point of a chart: see kd.experiments.study."""

    _architectures: ClassVar = ("student",)

    study: str = setting(
        "labels",
        "Study",
        "What varies: labels, the number of labels; or noise, the share of wrong ones.",
        choices=("labels", "noise"),
    )
    student: str = setting("mlp-128", "Student", "The architecture of student and control.")
    teacher: str = setting(
        MNIST.teacher, "Teacher", "The trained network whose answers the student learns to match."
    )
    temperature: float = setting(
        4.0,
        "Temperature",
        "Softens the teacher's answers: nearly one-hot at 1; higher shows which other classes it considers.",
        1.0,
        20.0,
        0.5,
    )
    seeds: int = setting(
        5,
        "Seeds",
        "How many times everything is trained, with different initial weights and images.",
        1,
        20,
        1,
    )

    #: The progress of a whole study is counted as one epoch.
    epochs: ClassVar[int] = 1
    total_epochs: ClassVar[int] = 1


def _title(config: StudyConfig, named: Callable[[str], str]) -> str:
    return (
        f"a study of {config.study}: {config.student} taught by {named(config.teacher)}, "
        f"T = {config.temperature:g}, {config.seeds} seeds"
    )


STUDY = Kind(
    name="study",
    config=StudyConfig,
    experiment="kd.experiments.study:Study",
    help="train students and controls with more and more labels, or with more and more wrong ones",
    default_name=lambda config: f"{config.study} study, {config.student} ×{config.seeds}",
    title=_title,
    columns=("value", "seed"),
    models=no_networks,
    kept=lambda rows: f"{len(rows)} points",
    page="lab",
    elsewhere="is an experiment of another kind; the Dark knowledge page shows it",
    progress="study",
)
