"""Base classes for the settings of a run: immutable and validated.

Every field carries its range, label and help text. Validation, the command line, the
URL query and the app's widgets are all derived from them. A value out of range raises
a UserError that says what to do; nothing is clamped silently.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from kd.config import fields
from kd.data.augmentation import AUGMENTATIONS, BY_LABEL
from kd.data.task import MNIST
from kd.errors import UserError
from kd.models import registry

MAX_TEACHERS = 5
_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{16}")


def is_id(text: Any) -> bool:
    """Return whether ``text`` is the id of a run, such as 20260131-120000-0123456789abcdef."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None


def finite_number(value: Any, kind: type, label: str) -> int | float:
    """Return ``value`` as a finite int or float.

    Raises:
        UserError: ``value`` is not a finite number, or not a whole one where ``kind`` is int.
    """
    try:
        if isinstance(value, bool) or (isinstance(value, str) and "_" in value):  # float() reads 1_2 as 12
            raise ValueError
        number = float(value)
        if not math.isfinite(number) or (kind is int and number != int(number)):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        noun = "a whole number" if kind is int else "a number"
        raise UserError(f"{label} must be {noun}, not {shown(value)}.") from None
    return kind(number)


def parts_of(text: str) -> list[str]:
    """Return the values in a list such as "1,2": with commas, spaces or both between them."""
    return [part for part in re.split(r"[,\s]+", text) if part]


def plain_number(value: int | float) -> str:
    """Return a number as people write it, such as 1, 0.25 or 1,000,000; only huge ones are rounded."""
    if abs(value) >= 1e15:
        return f"{float(value):.6g}"
    return f"{int(value):,}" if value == int(value) else f"{value:,}"


def shown(value: Any) -> str:
    """Return ``value`` as it is quoted in a message, kept short."""
    try:
        return repr(str(value)[:40])
    except ValueError:  # Python refuses to write out integers of thousands of digits
        return "a number with thousands of digits"


def _text(spec: dataclasses.Field, value: Any) -> str:
    """Return a setting's value as it is written in a URL or on the command line."""
    return spec.metadata.get("text", str)(value)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base class of all settings, which validates and converts values by the fields' metadata."""

    #: Names of the architecture settings, checked against kd.models.registry.
    _architectures: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for spec in dataclasses.fields(self):
            value, label = getattr(self, spec.name), spec.metadata["label"]
            if spec.type == "str" and not isinstance(value, str):
                raise UserError(f"{label} must be a name, not {shown(value)}.")
            choices = spec.metadata.get("choices")
            if choices and value not in choices:
                raise UserError(f"{label} must be one of {', '.join(choices)}, not {shown(value)}.")
            low, high = spec.metadata.get("low"), spec.metadata.get("high")
            if low is None or high is None:
                continue
            kind = int if spec.type == "int" else float
            value = finite_number(value, kind, label)
            if not low <= value <= high:
                raise UserError(
                    f"{label} must be between {plain_number(low)} and {plain_number(high)}, "
                    f"not {plain_number(value)}."
                )
            object.__setattr__(self, spec.name, value)
        for name in self._architectures:
            registry.architecture(getattr(self, name))  # raises UserError
        if "teacher" in self.__dataclass_fields__ and "teacher" not in self._architectures:
            check_teacher(getattr(self, "teacher", ""))

    @classmethod
    def setting(cls, name: str) -> Mapping[str, Any]:
        """Return label, help, low, high, step and default of a setting."""
        spec = cls.__dataclass_fields__[name]
        return {**spec.metadata, "default": spec.default}

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some settings changed. The new values are validated."""
        return dataclasses.replace(self, **changes)

    def reads(self, name: str) -> bool:
        """Return whether the run depends on this setting."""
        return True

    def for_visitors(self) -> None:
        """Check that visitors of the app may start a run of this size.

        Raises:
            UserError: the run is too large.
        """

    # -- dict ------------------------------------------------------------------
    def to_dict(self) -> dict[str, Any]:
        """Return the settings that the run depends on."""
        return {
            spec.name: [list(part) for part in value] if isinstance(value, tuple) else value
            for spec in dataclasses.fields(self)
            if self.reads(spec.name)
            for value in [getattr(self, spec.name)]
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the config with these settings, and defaults for all others.

        Raises:
            UserError: a setting is unknown or not valid.
        """
        known = {spec.name for spec in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise UserError(
                f"There is no setting called {unknown[0][:40]!r}; "
                f"the settings are {', '.join(sorted(known))}."
            )
        return cls(**values)

    # -- URL query -------------------------------------------------------------
    def to_query(self) -> dict[str, str]:
        """Return the settings that differ from their defaults, as URL parameters."""
        query = {}
        for spec in dataclasses.fields(self):
            value = getattr(self, spec.name)
            if value != spec.default:
                query[spec.name] = _text(spec, value)
        return query

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> Self:
        """Return the config given by URL parameters. Unknown parameters are ignored."""
        known = {spec.name for spec in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in query.items() if name in known})

    # -- command line ----------------------------------------------------------
    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add an option for each setting."""
        for spec in dataclasses.fields(cls):
            # The config itself checks the strings, so that the app, the command line and a link
            # give the same message.
            default = _text(spec, spec.default)
            parser.add_argument(
                "--" + spec.name.replace("_", "-"),
                default=default,
                metavar="X",
                help=f"{spec.metadata['help']} (default: {'none' if default == '' else default})".replace(
                    "%", "%%"
                ),
            )

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> Self:
        """Return the config given by parsed command-line options."""
        return cls(**{spec.name: getattr(arguments, spec.name) for spec in dataclasses.fields(cls)})


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """Settings that several kinds of run share."""

    epochs: int = fields.epochs(5)
    batch_size: int = fields.batch_size()
    learning_rate: float = fields.learning_rate(
        4e-3,
        "The optimizer's peak step size, reached after a warm-up; it then falls to zero. "
        "SGD needs about ten times as much as AdamW.",
    )
    optimizer: str = fields.optimizer()
    seed: int = fields.seed()

    @property
    def total_epochs(self) -> int:
        """The total number of epochs over all stages of training."""
        return self.epochs


def check_teacher(name: str) -> None:
    """Raise a UserError unless ``name`` can name a teacher, or several joined by +."""
    names = name.split("+")
    if max(map(len, names)) > 100:
        raise UserError(
            "Teacher must be the name of a shipped teacher or the id of a teacher run, "
            "or several joined by +."
        )
    if len(names) > MAX_TEACHERS or len(set(names)) < len(names):
        raise UserError(f"Teacher can combine up to {MAX_TEACHERS} different teachers, joined by +.")


def check_labels(count: int) -> None:
    """Raise a UserError unless there is a label for each class, or 0 for all images."""
    if 0 < count < MNIST.classes:
        raise UserError(f"Labels must be at least {MNIST.classes}, one per digit, or 0 for all.")


def check_augmentation(name: str, labels: int = 0, label_noise: float = 0.0) -> None:
    """Raise a UserError unless ``name`` is an augmentation that these labels allow."""
    if name not in AUGMENTATIONS:
        raise UserError(f"Augmentation must be one of {', '.join(AUGMENTATIONS)}.")
    if name in BY_LABEL and (labels or label_noise):
        raise UserError(
            f"Augmentation {name} draws digits by their labels, so it needs all labels, and right ones. Set "
            "labels and label noise to 0, or choose another augmentation."
        )
