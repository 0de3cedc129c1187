"""The settings of a sweep: lists of values for some settings of a distillation, and the number of seeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from kd.config import fields
from kd.config.base import Config, parts_of
from kd.config.distil import DistilConfig
from kd.config.fields import explained, setting
from kd.config.kind import NAME_LENGTH, Kind, no_networks, plural, share_kept
from kd.errors import UserError
from kd.models import registry
from kd.objectives import METHODS

MAX_CELLS = 2_000
MAX_VALUES = 50  # per axis
#: The settings that can have several values, in the order of the cells: the last one varies fastest.
AXES = ("student", "labels", "method", "temperature", "soft_weight")
_KINDS: dict[str, type] = {
    "student": str,
    "labels": int,
    "method": str,
    "temperature": float,
    "soft_weight": float,
}


@dataclass(frozen=True, kw_only=True)
class SweepConfig(Config):
    """Settings of a sweep: students for all combinations of the axes' values, each with its control.

    An axis is a comma-separated list of values without duplicates, numbers in ascending order; spaces
    separate values too. See kd.sweeps.sweep.
    """

    student: str = fields.student(
        "mlp-30", "Several are separated by commas, such as mlp-30,mlp-300.", "Students"
    )
    teacher: str = fields.teacher()
    method: str = fields.method("Methods", "Several are separated by commas.")
    temperature: str = setting(
        "1,2,3,4,8,20",
        "Temperatures",
        explained("temperature", "1 to 20, separated by commas; methods without a temperature ignore them."),
    )
    soft_weight: str = setting(
        "0.5,0.9,1",
        "Soft weights",
        explained("soft weight", "0 to 1, separated by commas; 0 is the control, which is always trained."),
    )
    labels: str = setting(
        "0",
        "Labels",
        "Numbers of labelled training images, separated by commas. The students learn the teacher's "
        "answers for all images. 0 means all.",
    )
    seeds: int = fields.seeds(3, 100, "different initial weights and order of the images")
    epochs: int = fields.epochs(3, "each training")
    seed: int = fields.seed(
        "The first of the seeds, which are consecutive numbers.", "First seed", 2**31 - 101
    )
    continues: str = setting(
        "",
        "Continues",
        "The id of a stopped sweep with the same settings. Its finished cells are reused.",
    )

    #: The progress of a whole sweep is counted as one epoch.
    total_epochs: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in AXES:
            object.__setattr__(self, name, ",".join(_written(value) for value in self._checked(name)))
        if max(len(self.teacher), len(self.continues)) > 600:
            raise UserError(
                "Teacher must be the name of a shipped teacher or the id of a teacher run, "
                "or several joined by +."
            )
        for student in self.values("student"):
            for method in self.values("method"):
                DistilConfig(student=student, method=method)  # raises a UserError if they do not fit
        if self.count > MAX_CELLS:
            raise UserError(
                f"This sweep has {self.count:,} cells, controls included; the maximum is {MAX_CELLS:,}. "
                "Use fewer values or seeds, or several sweeps with different first seeds."
            )

    def _checked(self, name: str) -> list[Any]:
        """Return the validated values of an axis."""
        label, kind = self.setting(name)["label"], _KINDS[name]
        parts: list[Any] = parts_of(getattr(self, name))
        if not parts:
            raise UserError(
                f"{label} must have at least one value, "
                f"such as {self.setting(name)['default'].split(',')[0]}."
            )
        if len(parts) > MAX_VALUES:
            raise UserError(f"{label} can have at most {MAX_VALUES} values, not {len(parts)}.")
        if kind is str:
            for value in parts if name == "student" else []:
                registry.architecture(value)
            if name == "method" and (unknown := [value for value in parts if value not in METHODS]):
                raise UserError(
                    f"There is no method called {unknown[0][:40]!r}; the methods are {', '.join(METHODS)}."
                )
            return list(dict.fromkeys(parts))
        # Validated like a single value: the same range and the same message.
        return sorted({getattr(DistilConfig(**{name: value}), name) for value in parts})

    def values(self, axis: str) -> list[Any]:
        """Return the values of one of AXES: names, or numbers in order."""
        return [_KINDS[axis](value) for value in getattr(self, axis).split(",")]

    @property
    def command(self) -> str:
        """The command that trains this sweep."""
        explicit = {
            name: getattr(self, name) for name in ("student", "temperature", "soft_weight", "seeds")
        } | self.to_query()
        options = [
            f"--{name.replace('_', '-')} {value}" for name, value in explicit.items() if name != "continues"
        ]
        return " ".join(["python -m kd sweep", *options, "--json"])

    @property
    def varied(self) -> list[str]:
        """The axes with more than one value."""
        return [name for name in AXES if len(self.values(name)) > 1]

    @property
    def count(self) -> int:
        """The number of cells, controls included."""
        weights = len([weight for weight in self.values("soft_weight") if weight])
        taught = sum(
            (len(self.values("temperature")) if "temperature" in METHODS[method].settings else 1)
            * (weights if "soft_weight" in METHODS[method].settings else 1)
            for method in self.values("method")
        )
        return len(self.values("student")) * len(self.values("labels")) * self.seeds * (1 + taught)


def _written(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:.10g}"


def _title(config: SweepConfig, named: Callable[[str], str]) -> str:
    axes = "; ".join(
        f"{config.setting(name)['label'].lower()} {getattr(config, name).replace(',', ', ')}"
        for name in AXES
        if name != "labels" or config.labels != "0"
    )
    return (
        f"{axes}; taught by {named(config.teacher)}, {plural(config.seeds, 'seed')} from {config.seed}, "
        f"{plural(config.epochs, 'epoch')}"
    )


SWEEP = Kind(
    name="sweep",
    logged=True,
    config=SweepConfig,
    experiment="kd.sweeps.sweep:Sweep",
    help="train students for all combinations of temperature, soft weight and other settings, many at once",
    default_name=lambda config: f"sweep of {config.count:,} cells, {config.student}"[:NAME_LENGTH],
    title=_title,
    few_learners=False,
    models=no_networks,
    kept=share_kept("sweep"),
    page="sweep",
    elsewhere="is a sweep; the Sweep page shows it",
    progress="sweep",
)
