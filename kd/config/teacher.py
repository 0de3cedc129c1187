"""The settings of training a teacher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kd.config import fields
from kd.config.base import Config, check_augmentation
from kd.config.fields import setting
from kd.config.kind import Kind


@dataclass(frozen=True, kw_only=True)
class TeacherConfig(Config):
    """Settings of training a teacher from labels, with augmented images."""

    _architectures: ClassVar = ("teacher",)

    teacher: str = setting("cnn", "Architecture", "The network to train.")
    augmentation: str = fields.augmentation("affine")
    precision: str = fields.precision()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_augmentation(self.augmentation)


TEACHER = Kind(
    name="teacher",
    logged=True,
    config=TeacherConfig,
    experiment="kd.experiments.teacher:TeacherTraining",
    help="train a teacher, and store the run",
    default_name=lambda config: f"teacher {config.teacher} ×{config.epochs}",
    title=lambda config, named: (
        f"{config.teacher} trained from labels, augmentation {config.augmentation}, seed {config.seed}"
    ),
    has_teacher=False,
    distributed=True,
    models=lambda config, measures: ("teacher",),
    architecture=lambda config, measures: config.teacher,
    page="distil",
    replay=True,
    comparable=True,
    compressible=True,
    taught_by="labels",
)
