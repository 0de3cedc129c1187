"""What a run is made of: frozen, self-checking settings with one conversion mechanism.

Every field carries its own range, label and help text, and from these come the
validation, the command line, the URL query and the widgets of the app. Values out
of range are refused with a sentence that says what to do; nothing is clamped
silently.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Mapping, Self

from kd.objectives import feature_matching
from kd.models import compress, registry
from kd.data.augmentation import AUGMENTATIONS
from kd.errors import UserError
from kd.objectives.mistakes import MISTAKES
from kd.objectives import METHODS
from kd.optimizers import OPTIMIZERS
from kd.schemes import SCHEMES

#: A change made by hand during training: after optimizer step ``step`` (counted
#: from 1), the setting ``name`` becomes ``value``.
Change = tuple[int, str, float]

#: What may change while training. Everything else is fixed at the start.
LIVE_SETTINGS = ("temperature", "soft_weight")

#: Where student and control begin: see kd.experiment.Distillation.
INITIALIZATIONS = ("random", "teacher")

MAX_STEPS = 200 * 60_000  # no run is longer: the most epochs, all of MNIST, one image a batch
MAX_CHANGES = 1000
MAX_TEACHERS = 5

#: The settings that some methods read and others do not.
SCHEME_SETTINGS = tuple(dict.fromkeys(name for scheme in SCHEMES.values() for name in scheme.settings))
METHOD_SETTINGS = tuple(dict.fromkeys(name for method in METHODS.values() for name in method.settings))


def setting(default, label: str, help: str, low=None, high=None, step=None, choices: tuple[str, ...] = ()) -> Any:
    """A field of Settings: a number has low, high and the step of its widget; a name may have choices."""
    return field(
        default=default,
        metadata={"label": label, "help": help, "low": low, "high": high, "step": step, "choices": choices},
    )


def _number(value: Any, kind: type, label: str) -> int | float:
    """``value`` as a finite int or float, or a UserError that names the setting."""
    try:
        if isinstance(value, bool):
            raise ValueError
        number = float(value)
        if not math.isfinite(number) or (kind is int and number != int(number)):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        wanted = "a whole number" if kind is int else "a number"
        raise UserError(f"{label} must be {wanted}, not {_shown(value)}.") from None
    return kind(number)


def _plain(value: int | float) -> str:
    """A number as people write it: 1, 0.25, 1,000,000; never rounded."""
    return f"{int(value):,}" if value == int(value) else f"{value:,}"


def _shown(value: Any) -> str:
    """``value`` as it stands in a message, kept short."""
    try:
        return repr(str(value)[:40])
    except ValueError:  # Python refuses to write out integers of thousands of digits
        return "so large a number"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Validation from field metadata, and the conversions."""

    #: Names of the architecture settings, checked against kd.models.
    _architectures: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for spec in dataclasses.fields(self):
            value, label = getattr(self, spec.name), spec.metadata["label"]
            if spec.type == "str" and not isinstance(value, str):
                raise UserError(f"{label} must be a name, not {_shown(value)}.")
            choices = spec.metadata.get("choices")
            if choices and value not in choices:
                raise UserError(f"{label} must be one of {', '.join(choices)}, not {_shown(value)}.")
            low, high = spec.metadata.get("low"), spec.metadata.get("high")
            if low is None:
                continue
            kind = int if spec.type == "int" else float
            value = _number(value, kind, label)
            if not low <= value <= high:
                raise UserError(f"{label} must be between {_plain(low)} and {_plain(high)}, not {_plain(value)}.")
            object.__setattr__(self, spec.name, value)
        for name in self._architectures:
            registry.architecture(getattr(self, name))  # raises UserError
        if "teacher" in self.__dataclass_fields__ and "teacher" not in self._architectures:
            _check_teacher(self.teacher)

    @classmethod
    def setting(cls, name: str) -> Mapping[str, Any]:
        """Label, help, low, high, step and default of one setting."""
        spec = cls.__dataclass_fields__[name]
        return {**spec.metadata, "default": spec.default}

    def replace(self, **changes: Any) -> Self:
        return dataclasses.replace(self, **changes)

    def reads(self, name: str) -> bool:
        """Whether the run depends on this setting."""
        return True

    def for_visitors(self) -> None:
        """Sees that it is no larger than what a visitor of the app may start.

        Raises:
            UserError: it is.
        """

    # -- dict ------------------------------------------------------------------
    def to_dict(self) -> dict[str, Any]:
        """The settings that the run depends on."""
        return {
            spec.name: [list(c) for c in value] if spec.name == "schedule" else value
            for spec in dataclasses.fields(self)
            if self.reads(spec.name)
            for value in [getattr(self, spec.name)]
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The config with these settings; the rest keep their defaults."""
        known = {spec.name for spec in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise UserError(
                f"There is no setting called {unknown[0][:40]!r}; the settings are {', '.join(sorted(known))}."
            )
        return cls(**values)

    # -- URL query -------------------------------------------------------------
    def to_query(self) -> dict[str, str]:
        """The settings that differ from their defaults, as URL parameters."""
        query = {}
        for spec in dataclasses.fields(self):
            value = getattr(self, spec.name)
            if value != spec.default:
                query[spec.name] = format_schedule(value) if spec.name == "schedule" else f"{value}"
        return query

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> Self:
        """The config in a URL's parameters. Parameters of other things are ignored."""
        known = {spec.name for spec in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in query.items() if name in known})

    # -- command line ----------------------------------------------------------
    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        for spec in dataclasses.fields(cls):
            # Strings are checked by the config itself, so that every way in gives
            # the same message.
            default = format_schedule(spec.default) if spec.name == "schedule" else spec.default
            parser.add_argument(
                "--" + spec.name.replace("_", "-"),
                default=default,
                metavar="X",
                help=f"{spec.metadata['help']} (default: {'none' if default == '' else default})".replace("%", "%%"),
            )

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> Self:
        return cls(**{spec.name: getattr(arguments, spec.name) for spec in dataclasses.fields(cls)})


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """What all trainings have in common."""

    epochs: int = setting(
        5, "Epochs", "How many times training goes through all the training images.", 1, 200, 1
    )
    batch_size: int = setting(
        128, "Batch size", "Images per optimizer step. Smaller learns more per image, larger is faster.", 1, 4096, 1
    )
    learning_rate: float = setting(
        4e-3, "Learning rate", "The peak of the optimizer's step size; it warms up, then falls to zero. SGD likes about ten times AdamW's.", 1e-6, 1.0, 1e-4
    )
    optimizer: str = setting(
        "adamw", "Optimizer", "adamw learns fast; sgd, with momentum, needs more epochs, and its networks often generalize better.", choices=tuple(OPTIMIZERS)
    )
    seed: int = setting(
        0, "Seed", "Fixes the initial weights and the order of the images. The same seed gives the same run.", 0, 2**31 - 1, 1
    )

    @property
    def total_epochs(self) -> int:
        """Of all stages of training together."""
        return self.epochs


@dataclass(frozen=True, kw_only=True)
class TeacherConfig(Config):
    """How to train a teacher from labels, with augmented images."""

    _architectures: ClassVar = ("teacher",)

    teacher: str = setting("cnn", "Architecture", "The network to train.")
    augmentation: str = setting(
        "affine", "Augmentation", "How training images are varied: none, jitter (shifts of up to 2 px) or affine (also turned and scaled)."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_augmentation(self.augmentation)


@dataclass(frozen=True, kw_only=True)
class DistilConfig(Config):
    """How to distil a student from a teacher (Hinton, Vinyals & Dean 2015)."""

    _architectures: ClassVar = ("student", "assistant")

    student: str = setting("mlp-128", "Student", "The small network that learns from the teacher.")
    teacher: str = setting("cnn", "Teacher", "The trained network whose answers the student learns to match.")
    method: str = setting("hinton", "Method", "How the student is taught.")
    scheme: str = setting("teacher", "Scheme", "Who the student's teacher is.")
    assistant: str = setting("mlp-800x2", "Assistant", "The network between teacher and student.")
    generations: int = setting(2, "Generations", "How often a new copy learns from the one before.", 1, 5, 1)
    initialization: str = setting(
        "random", "Initial weights", "Of student and control: random, or teacher: every second block of the teacher's, which takes a Transformer of half its depth."
    )
    temperature: float = setting(
        4.0, "Temperature", "Softens the teacher's answers: at 1 nearly one-hot, higher shows what else it saw.", 1.0, 20.0, 0.5
    )
    soft_weight: float = setting(
        0.9, "Soft weight", "Share of the loss that matches the teacher's answers; the rest matches the labels. 0 ignores the answers.", 0.0, 1.0, 0.05
    )
    feature_weight: float = setting(
        1.0, "Feature weight", "Weight of what compares hidden layers. 1 is a good start for every method; 0 leaves it out.", 0.0, 10.0, 0.1
    )
    target_weight: float = setting(
        1.0, "Target weight", "Weight of how sure the teacher is of the right class.", 0.0, 10.0, 0.5
    )
    nontarget_weight: float = setting(
        2.0, "Non-target weight", "Weight of how the teacher compares the other classes with each other.", 0.0, 10.0, 0.5
    )
    intra_weight: float = setting(
        1.0, "Intra-class weight", "Weight of ranking a class's images as the teacher does, beside ranking an image's classes.", 0.0, 10.0, 0.5
    )
    jsd_mix: float = setting(
        0.5, "Mix", "0 covers all that the teacher finds possible (KL), 1 adds nothing to it (reverse KL); between is between.", 0.0, 1.0, 0.05
    )
    smoothing: float = setting(
        0.1, "Smoothing", "The probability that is taken from the label and spread evenly over all classes.", 0.0, 0.9, 0.05
    )
    certainty: float = setting(
        0.99, "Certainty", "The probability that the virtual teacher gives the label; the rest is spread over the other classes.", 0.15, 0.999, 0.001
    )
    augmentation: str = setting(
        "none", "Augmentation", "How training images are varied, for teacher and student alike: none, jitter (shifts of up to 2 px) or affine (also turned and scaled; slow)."
    )
    omitted: str = setting("", "Left out", "Digits that neither student nor control is trained on, such as 3 or 0169. Empty: none.")
    labels: int = setting(
        0, "Labels", "How many training images have a label, the digits alike. The teacher answers about the others too. 0: all have one.", 0, 60_000, 10
    )
    label_noise: float = setting(
        0.0, "Label noise", "Share of the labels that are replaced by a wrong digit before training. The teacher's answers stay what they are.", 0.0, 0.6, 0.05
    )
    schedule: tuple[Change, ...] = field(
        default=(),
        metadata={"label": "Schedule", "help": "Changes made during training, as step:setting=value;…"},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method not in METHODS:
            raise UserError(f"There is no method called {self.method[:40]!r}; the methods are {', '.join(METHODS)}.")
        if self.scheme not in SCHEMES:
            raise UserError(f"There is no scheme called {self.scheme[:40]!r}; the schemes are {', '.join(SCHEMES)}.")
        for name in (*METHOD_SETTINGS, *SCHEME_SETTINGS):
            if not self.reads(name) and getattr(self, name) != self.setting(name)["default"]:
                raise UserError(unread(name, self.method if name in METHOD_SETTINGS else self.scheme))
        self._check_scheme()
        feature_matching.check(METHODS[self.method], "student", self.student)
        if self.initialization not in INITIALIZATIONS:
            raise UserError("Initial weights must be random or teacher.")
        _check_augmentation(self.augmentation)
        object.__setattr__(self, "omitted", checked_omitted(self.omitted))
        if 0 < self.labels < 10:
            raise UserError("Labels must be at least 10, one a digit, or 0 for all.")
        if self.label_noise and len(self.omitted) == 9:
            raise UserError("With nine digits left out no other digit is there to be put in a label's place; set label noise to 0.")
        object.__setattr__(self, "schedule", self._checked_schedule())

    @property
    def total_epochs(self) -> int:
        return self.epochs * {"assistant": 2, "born-again": 1 + self.generations}.get(self.scheme, 1)

    def reads(self, name: str) -> bool:
        """Whether the method or the scheme makes use of the setting called ``name``."""
        used = METHODS[self.method].settings + SCHEMES[self.scheme].settings
        return name not in METHOD_SETTINGS + SCHEME_SETTINGS or name in used

    def _check_scheme(self) -> None:
        if self.scheme == "teacher":
            return
        method = METHODS[self.method]
        if not method.teacher:
            raise UserError(f"The method {self.method} has no teacher, so that nobody else can be it; choose the scheme teacher.")
        if self.initialization != "random":
            raise UserError("Only a student that the teacher itself teaches can begin with its layers; choose the scheme teacher.")
        if self.scheme in ("mutual", "exits") and method.looks:
            who = "Students who teach each other hear" if self.scheme == "mutual" else "Exits hear"
            raise UserError(f"{who} answers alone, but the method {self.method} compares hidden layers; choose another.")
        if self.scheme == "exits":
            feature_matching.check_exits(self.student)
        if self.scheme == "assistant":
            feature_matching.check(method, "assistant", self.assistant)

    def _checked_schedule(self) -> tuple[Change, ...]:
        schedule = self.schedule
        if isinstance(schedule, str):
            schedule = parse_schedule(schedule)
        if not isinstance(schedule, (list, tuple)):
            raise UserError("A schedule is a list of changes, each a step, a setting and a value.")
        if len(schedule) > MAX_CHANGES:
            raise UserError(f"A schedule can hold at most {MAX_CHANGES} changes.")
        checked = []
        for change in schedule:
            try:
                step, name, value = change
            except (TypeError, ValueError):
                raise UserError("Each change in a schedule is a step, a setting and a value.") from None
            if name not in LIVE_SETTINGS:
                raise UserError(f"Only {' and '.join(LIVE_SETTINGS)} can change during training.")
            if not self.reads(name):
                raise UserError(unread(name, self.method))
            step = _number(step, int, "A schedule's step")
            if not 0 <= step <= MAX_STEPS:
                raise UserError(f"A schedule's step must be between 0 and {MAX_STEPS:,}, not {step:,}.")
            checked.append((step, name, check_live(name, value)))
        return tuple(sorted(checked, key=lambda change: change[0]))


@dataclass(frozen=True, kw_only=True)
class StudyConfig(Settings):
    """Many small trainings, of which each is a point of a chart: see kd.studies."""

    _architectures: ClassVar = ("student",)

    study: str = setting(
        "labels", "Study", "What is varied: labels, how many there are; noise, the share of them that is wrong.", choices=("labels", "noise")
    )
    student: str = setting("mlp-128", "Student", "The network that student and control are.")
    teacher: str = setting("cnn", "Teacher", "The trained network whose answers the student learns to match.")
    temperature: float = setting(
        4.0, "Temperature", "Softens the teacher's answers: at 1 nearly one-hot, higher shows what else it saw.", 1.0, 20.0, 0.5
    )
    seeds: int = setting(5, "Seeds", "How often all is done again, with other initial weights and other images.", 1, 20, 1)

    #: A sweep counts its progress as one epoch.
    epochs: ClassVar[int] = 1
    total_epochs: ClassVar[int] = 1


@dataclass(frozen=True, kw_only=True)
class MistakeConfig(Settings):
    """A student that is taught with a mistake, beside one that is taught right: see kd.breaking."""

    _architectures: ClassVar = ("student",)

    mistake: str = setting("no-t2", "Mistake", "What is done wrong.", choices=tuple(MISTAKES))
    student: str = setting("mlp-128", "Student", "The network that all three are.")
    teacher: str = setting("cnn", "Teacher", "The trained network whose answers the students learn to match.")
    temperature: float = setting(
        8.0, "Temperature", "Softens the teacher's answers: at 1 nearly one-hot, higher shows what else it saw.", 1.0, 20.0, 0.5
    )
    soft_weight: float = setting(0.5, "Soft weight", "Share of the loss that comes from the teacher; the rest comes from the labels.", 0.0, 1.0, 0.05)
    labels: int = setting(100, "Labels", "How many training images have a label. With few the teacher matters more. 0: all have one.", 0, 60_000, 10)
    epochs: int = setting(3, "Epochs", "How many times all training images are seen.", 1, 50, 1)
    seed: int = setting(0, "Seed", "Fixes the initial weights and the order of the images. The same seed gives the same run.", 0, 2**31 - 1, 1)

    @property
    def total_epochs(self) -> int:
        return self.epochs


@dataclass(frozen=True, kw_only=True)
class CompressConfig(Config):
    """A trained network made smaller, and its recovery with a teacher: see kd.compress and kd.recovery."""

    network: str = setting("cnn", "Network", "What is made smaller: a shipped teacher by its name, or a run by its id.")
    neurons: int = setting(
        50, "Neurons, by weight", "Percent of the neurons of each hidden layer, or channels of each convolution, to remove: those with the smallest weights.", 0, 99, 1
    )
    activation: int = setting(0, "Neurons, by activation", "Percent of the neurons that are then left to remove: those that say least about 1,000 validation images.", 0, 99, 1)
    rank: int = setting(0, "Low rank", "Percent of each layer's weights to save by splitting it into two thin ones; the last layer stays.", 0, 99, 1)
    weights: int = setting(0, "Weights", "Percent of all weights to set to zero: the smallest. Nothing gets faster by it, and only a zipped file gets smaller.", 0, 99, 1)
    int8: str = setting(
        "off", "int8", "Linear layers in 8-bit integers, after the recovery: dynamic scales each image as it comes, static all alike.", choices=compress.INT8
    )
    teacher: str = setting("cnn", "Teacher", "The trained network whose answers the smaller one recovers with.")
    temperature: float = setting(
        4.0, "Temperature", "Softens the teacher's answers: at 1 nearly one-hot, higher shows what else it saw.", 1.0, 20.0, 0.5
    )
    soft_weight: float = setting(0.9, "Soft weight", "Share of the loss that comes from the teacher; the rest comes from the labels.", 0.0, 1.0, 0.05)
    labels: int = setting(
        0, "Labels", "How many training images have a label in the recovery, the digits alike. With few the teacher matters more. 0: all have one.", 0, 60_000, 10
    )
    epochs: int = setting(2, "Epochs", "How often the recovery goes through all the training images.", 1, 50, 1)
    learning_rate: float = setting(1e-3, "Learning rate", "The peak of the optimizer's step size: lower than for a network that knows nothing.", 1e-6, 1.0, 1e-4)

    def __post_init__(self) -> None:
        super().__post_init__()
        if max(len(self.network), len(self.teacher)) > 600:
            raise UserError("Network and teacher must each be the name of a shipped teacher or the id of a run.")
        if 0 < self.labels < 10:
            raise UserError("Labels must be at least 10, one a digit, or 0 for all.")

    @property
    def percents(self) -> dict[str, int]:
        """What each of compress.TECHNIQUES takes away."""
        return {name: getattr(self, name) for name in compress.TECHNIQUES}

    @property
    def student(self) -> str:
        return self.network


@dataclass(frozen=True, kw_only=True)
class ImportConfig(Settings):
    """A network that was trained elsewhere: see kd.importing."""

    _architectures: ClassVar = ("network",)

    network: str = setting("mlp-128", "Network", "Its architecture.")
    role: str = setting("student", "Used as", "Whether it is looked at as a student or can teach.", choices=("student", "teacher"))

    #: What it is held against.
    teacher: ClassVar[str] = "cnn"
    epochs: ClassVar[int] = 0
    total_epochs: ClassVar[int] = 0

    @property
    def student(self) -> str:
        return self.network


def _check_teacher(name: str) -> None:
    names = name.split("+")
    if max(map(len, names)) > 100:
        raise UserError("Teacher must be the name of a shipped teacher or the id of a teacher run, or several joined by +.")
    if len(names) > MAX_TEACHERS or len(set(names)) < len(names):
        raise UserError(f"Teacher can be up to {MAX_TEACHERS} different ones joined by +.")


def _check_augmentation(name: str) -> None:
    if name not in AUGMENTATIONS:
        raise UserError("Augmentation must be none, jitter or affine.")


def checked_omitted(digits: str) -> str:
    """Digits to leave out, in order and once each, or a UserError."""
    if not set(digits) <= set("0123456789") or len(set(digits)) > 9:
        raise UserError(f"Left out must be digits such as 3 or 0169, and not all ten; {_shown(digits)} is not.")
    return "".join(sorted(set(digits)))


def unread(name: str, where: str) -> str:
    """What to say where a setting is given to a method or a scheme, ``where``, that has no use for it."""
    label, kind = DistilConfig.setting(name)["label"], "method" if where in METHODS else "scheme"
    used = (METHODS if where in METHODS else SCHEMES)[where].settings
    which = f", which has {', '.join(used)}" if used else ""
    return f"{label} plays no part in the {kind} {where}{which}; leave it out or choose another {kind}."


def check_live(name: str, value: Any) -> float:
    """``value`` for a setting that may change during training, or a UserError."""
    return getattr(DistilConfig(**{name: value}), name)


def parse_schedule(text: str) -> list[Change]:
    """``"120:temperature=8;300:soft_weight=0.5"`` as a list of changes."""
    changes = []
    for part in filter(None, text.split(";")):
        step, colon, assignment = part.partition(":")
        name, equals, value = assignment.partition("=")
        if not (colon and equals):
            raise UserError(
                f"A schedule is written like 120:temperature=8;300:soft_weight=0.5, not {part[:40]!r}."
            )
        changes.append((step, name, value))
    return changes


def format_schedule(schedule: tuple[Change, ...]) -> str:
    return ";".join(f"{step}:{name}={value}" for step, name, value in schedule)


#: Named starting points. Only what differs from the defaults is listed.
PRESETS: dict[str, dict[str, Any]] = {
    "Quick look": {},
    "Hinton 2015": {"student": "mlp-800x2", "temperature": 20.0, "soft_weight": 1.0, "epochs": 20, "learning_rate": 2e-3},
    "Tiny student": {"student": "mlp-30", "temperature": 3.0, "epochs": 10},
    "Hard labels only": {"soft_weight": 0.0, "temperature": 1.0},
    "Where to look": {"method": "attention", "student": "cnn-tiny", "labels": 100},
    "Relations alone": {"method": "pkt", "soft_weight": 0.0, "labels": 100},
}
