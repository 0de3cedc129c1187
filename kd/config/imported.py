"""The settings of an imported network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kd.config.base import Settings, setting


@dataclass(frozen=True, kw_only=True)
class ImportConfig(Settings):
    """A network that was trained elsewhere: see kd.export.importing."""

    _architectures: ClassVar = ("network",)

    network: str = setting("mlp-128", "Network", "Its architecture.")
    role: str = setting(
        "student",
        "Used as",
        "Whether it is looked at as a student or can teach.",
        choices=("student", "teacher"),
    )

    #: What it is held against.
    teacher: ClassVar[str] = "cnn"
    epochs: ClassVar[int] = 0
    total_epochs: ClassVar[int] = 0

    @property
    def student(self) -> str:
        return self.network
