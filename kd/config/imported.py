"""The settings of an imported network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kd.config.base import Settings
from kd.config.fields import setting
from kd.config.kind import Kind
from kd.data.task import MNIST


@dataclass(frozen=True, kw_only=True)
class ImportConfig(Settings):
    """Settings of a network that was trained elsewhere: see kd.export.importing."""

    _architectures: ClassVar = ("network",)

    network: str = setting("mlp-128", "Network", "Its architecture.")
    role: str = setting(
        "student",
        "Used as",
        "Whether the network is used as a student or as a teacher.",
        choices=("student", "teacher"),
    )

    #: The teacher that it is compared with.
    teacher: ClassVar[str] = MNIST.teacher
    epochs: ClassVar[int] = 0
    total_epochs: ClassVar[int] = 0

    @property
    def student(self) -> str:
        return self.network


IMPORTED = Kind(
    name="imported",
    config=ImportConfig,
    default_name=lambda config: f"{config.network}, imported",
    title=lambda config, named: f"{config.network}, trained elsewhere and imported as a {config.role}",
    has_teacher=False,
    models=lambda config, measures: (config.role,),
    elsewhere="was imported; the Runs and Draw pages show it",
    leaves_student=True,
    comparable=True,
    compressible=True,
    taught_by="imported",
)
