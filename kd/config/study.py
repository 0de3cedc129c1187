"""The settings of a study: many small trainings, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from kd.config import fields
from kd.config.base import Settings
from kd.config.fields import setting
from kd.config.kind import Kind, no_networks


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
    student: str = fields.student("mlp-128", "Its control has the same architecture.")
    teacher: str = fields.teacher()
    temperature: float = fields.temperature(4.0)
    seeds: int = fields.seeds(5)

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
