"""The settings of training a teacher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kd.config.base import Config, check_augmentation, setting


@dataclass(frozen=True, kw_only=True)
class TeacherConfig(Config):
    """How to train a teacher from labels, with augmented images."""

    _architectures: ClassVar = ("teacher",)

    teacher: str = setting("cnn", "Architecture", "The network to train.")
    augmentation: str = setting(
        "affine",
        "Augmentation",
        "How training images are varied: none, jitter (shifts of up to 2 px) or affine (also turned and scaled).",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_augmentation(self.augmentation)
