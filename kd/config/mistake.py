"""The settings of a student that is taught with a classic mistake."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from kd.config import fields
from kd.config.base import Settings
from kd.config.kind import Kind
from kd.objectives.mistakes import MISTAKES


@dataclass(frozen=True, kw_only=True)
class MistakeConfig(Settings):
    """Settings of a student that is taught with a mistake, next to one that is taught correctly.

    See kd.experiments.mistake.
    """

    _architectures: ClassVar = ("student",)

    mistake: str = fields.mistake()
    student: str = fields.student("mlp-128", "All three networks have its architecture.")
    teacher: str = fields.teacher()
    temperature: float = fields.temperature(8.0)
    soft_weight: float = fields.soft_weight(0.5)
    labels: int = fields.labels(100)
    epochs: int = fields.epochs(3, most=50)
    seed: int = fields.seed()

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
