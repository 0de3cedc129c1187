"""The settings of a distillation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from kd.config import fields
from kd.config.base import Config, check_augmentation, check_labels, finite_number, shown
from kd.config.fields import explained, setting
from kd.config.kind import Kind, settings_line
from kd.config.schemes import SCHEMES
from kd.data.task import MNIST
from kd.errors import UserError
from kd.objectives import METHODS, feature_matching

#: A change during training: after optimizer step ``step`` (counted from 1), the setting ``name`` becomes
#: ``value``.
Change = tuple[int, str, float]
#: The settings that may change during training.
LIVE_SETTINGS = ("temperature", "soft_weight")
#: The initial weights of student and control: see kd.experiments.distil.Distillation.
INITIALIZATIONS = ("random", "teacher")
MAX_STEPS = 200 * MNIST.train_images  # of the longest run: 200 epochs of all of MNIST, one image per batch
MAX_CHANGES = 1000
#: The settings that only some schemes or methods read.
SCHEME_SETTINGS = tuple(dict.fromkeys(name for scheme in SCHEMES.values() for name in scheme.settings))
METHOD_SETTINGS = tuple(dict.fromkeys(name for method in METHODS.values() for name in method.settings))


@dataclass(frozen=True, kw_only=True)
class DistilConfig(Config):
    """Settings of a distillation from a teacher to a student (Hinton, Vinyals & Dean 2015)."""

    _architectures: ClassVar = ("student", "assistant")

    student: str = fields.student("mlp-128")
    teacher: str = fields.teacher()
    method: str = fields.method()
    scheme: str = setting("teacher", "Scheme", explained("scheme"))
    assistant: str = setting("mlp-800x2", "Assistant", "The network between teacher and student.")
    generations: int = setting(
        2, "Generations", "How many copies are trained in turn, each taught by the one before.", 1, 5, 1
    )
    initialization: str = setting(
        "random",
        "Initial weights",
        "Initial weights of student and control: random, or teacher to copy every second of its blocks, "
        "which needs a Transformer student of half the teacher's depth.",
    )
    temperature: float = fields.temperature(4.0)
    soft_weight: float = fields.soft_weight(0.9)
    feature_weight: float = setting(
        1.0,
        "Feature weight",
        "Weight of the loss that compares hidden layers. 1 is a good start for every method; 0 drops it.",
        0.0,
        10.0,
        0.1,
    )
    target_weight: float = setting(
        1.0,
        "Target weight",
        "Weight of matching the teacher's confidence in the correct class.",
        0.0,
        10.0,
        0.5,
    )
    nontarget_weight: float = setting(
        2.0,
        "Non-target weight",
        "Weight of matching how the teacher spreads probability over the other classes.",
        0.0,
        10.0,
        0.5,
    )
    intra_weight: float = setting(
        1.0,
        "Intra-class weight",
        "Weight of ranking the images for each class as the teacher does, "
        "in addition to the classes for each image.",
        0.0,
        10.0,
        0.5,
    )
    jsd_mix: float = setting(
        0.5,
        "Mix",
        "0 is forward KL, 1 is reverse KL; values in between interpolate.",
        0.0,
        1.0,
        0.05,
    )
    smoothing: float = setting(
        0.1,
        "Smoothing",
        "The probability that is taken from the label and spread evenly over all classes.",
        0.0,
        0.9,
        0.05,
    )
    certainty: float = setting(
        0.99,
        "Certainty",
        "The probability that the virtual teacher assigns to the label; the other classes share the rest.",
        0.15,
        0.999,
        0.001,
    )
    augmentation: str = fields.augmentation("none", "training images, for teacher and student alike,")
    omitted: str = fields.omitted()
    labels: int = fields.labels(0)
    label_noise: float = setting(
        0.0,
        "Label noise",
        "Share of the labels that are replaced by a wrong digit before training. "
        "The teacher's answers do not change.",
        0.0,
        0.6,
        0.05,
    )
    schedule: tuple[Change, ...] = field(
        default=(),
        metadata={
            "label": "Schedule",
            "help": "Changes made during training, as step:setting=value;…",
            "text": lambda changes: format_schedule(changes),
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method not in METHODS:
            raise UserError(
                f"There is no method called {self.method[:40]!r}; the methods are {', '.join(METHODS)}."
            )
        if self.scheme not in SCHEMES:
            raise UserError(
                f"There is no scheme called {self.scheme[:40]!r}; the schemes are {', '.join(SCHEMES)}."
            )
        for name in (*METHOD_SETTINGS, *SCHEME_SETTINGS):
            if not self.reads(name) and getattr(self, name) != self.setting(name)["default"]:
                raise UserError(unread(name, self.method if name in METHOD_SETTINGS else self.scheme))
        self._check_scheme()
        feature_matching.check(METHODS[self.method], "student", self.student)
        if self.initialization not in INITIALIZATIONS:
            raise UserError("Initial weights must be random or teacher.")
        check_augmentation(self.augmentation, self.labels, self.label_noise)
        object.__setattr__(self, "omitted", checked_omitted(self.omitted))
        check_labels(self.labels)
        if self.label_noise and len(self.omitted) == MNIST.classes - 1:
            raise UserError(
                "With nine digits left out, there is no other digit to replace a label with; "
                "set label noise to 0."
            )
        object.__setattr__(self, "schedule", self._checked_schedule())

    @property
    def total_epochs(self) -> int:
        """The epochs of all stages of the scheme together."""
        return self.epochs * {"assistant": 2, "born-again": 1 + self.generations}.get(self.scheme, 1)

    def reads(self, name: str) -> bool:
        """Return whether the method or the scheme uses the setting called ``name``."""
        used = METHODS[self.method].settings + SCHEMES[self.scheme].settings
        return name not in METHOD_SETTINGS + SCHEME_SETTINGS or name in used

    def _check_scheme(self) -> None:
        if self.scheme == "teacher":
            return
        method = METHODS[self.method]
        if not method.teacher:
            raise UserError(
                f"The method {self.method} uses no teacher, so there is none to replace; "
                "choose the scheme teacher."
            )
        if self.initialization != "random":
            raise UserError(
                "Only a student taught directly by the teacher can start with the teacher's layers; "
                "choose the scheme teacher."
            )
        if self.scheme in ("mutual", "exits") and method.feature_view:
            learners = "Students that teach each other" if self.scheme == "mutual" else "Exits"
            raise UserError(
                f"{learners} learn from outputs alone, but the method {self.method} compares hidden layers; "
                "choose another method."
            )
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
            step = int(finite_number(step, int, "A schedule's step"))
            if not 0 <= step <= MAX_STEPS:
                raise UserError(f"A schedule's step must be between 0 and {MAX_STEPS:,}, not {step:,}.")
            checked.append((step, name, check_live(name, value)))
        return tuple(sorted(checked, key=lambda change: change[0]))


def checked_omitted(digits: str) -> str:
    """Return the digits to leave out, in order and once each.

    Raises:
        UserError: ``digits`` has other characters than digits, or all ten digits.
    """
    if not set(digits) <= set(MNIST.class_names) or len(set(digits)) >= MNIST.classes:
        raise UserError(f"Left out must be digits such as 3 or 0169, but not all ten (got {shown(digits)}).")
    return "".join(sorted(set(digits)))


def unread(name: str, where: str) -> str:
    """Return the message for a setting that ``where``, a method or scheme, does not use."""
    label, kind = DistilConfig.setting(name)["label"], "method" if where in METHODS else "scheme"
    used = (METHODS if where in METHODS else SCHEMES)[where].settings
    which = f", which uses {', '.join(used)}" if used else ""
    return f"{label} plays no part in the {kind} {where}{which}; leave it out or choose another {kind}."


def check_live(name: str, value: Any) -> float:
    """Return ``value``, validated for a setting that may change during training.

    Raises:
        UserError: the value is not valid.
    """
    return getattr(DistilConfig(**{name: value}), name)


def parse_schedule(text: str) -> list[tuple[str, str, str]]:
    """Return the changes in a text such as ``"120:temperature=8;300:soft_weight=0.5"``."""
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
    """Return a schedule as text, in the form that parse_schedule() reads."""
    return ";".join(f"{step}:{name}={value}" for step, name, value in schedule)


def _title(config: DistilConfig, named: Callable[[str], str]) -> str:
    method, scheme = METHODS[config.method], SCHEMES[config.scheme]
    taught = (
        f"taught by {named(config.teacher)}" if method.teacher and scheme.teacher else "without a teacher"
    )
    through = "" if config.scheme == "teacher" else f", {scheme.title.lower()}"
    parts = [
        f"{config.student} {taught}: {method.title}{through}",
        settings_line({name: getattr(config, name) for name in method.settings}),
        *(f"{name} {getattr(config, name)}" for name in scheme.settings),
        "started with the teacher's layers" if config.initialization == "teacher" else "",
        f"no {', '.join(config.omitted)}" if config.omitted else "",
        f"{config.labels:,} labels" if config.labels else "",
        f"{config.label_noise:.0%} of the labels wrong" if config.label_noise else "",
        config.augmentation if config.augmentation != "none" else "",
        "SGD" if config.optimizer == "sgd" else "",
        f"seed {config.seed}",
    ]
    return ", ".join(filter(None, parts))


def _default_name(config: DistilConfig) -> str:
    method = "" if config.method == "hinton" else f" {config.method}"
    temperature = f" T={config.temperature:g}" if config.reads("temperature") else ""
    return f"{config.student}{method}{temperature} ×{config.epochs}"


def _models(config: DistilConfig, measures: Mapping[str, Any]) -> tuple[str, ...]:
    if not measures:
        return ("student", "control")
    # A chain of generations that was stopped early lacks some of them.
    return tuple(name for name in ("student", "control") if name in measures["models"])


def _check_teacher(config: DistilConfig, architecture: str) -> None:
    feature_matching.check(METHODS[config.method], "teacher", architecture)


def _control_note(config: DistilConfig) -> str:
    note = "The control had the same initial weights and the same batches, but learned from the labels alone."
    if config.initialization == "teacher":
        note += (
            " Both started with the teacher's layers, so the gap is what its answers add. "
            "To see what the layers add, compare with a run with random initial weights."
        )
    return note


DISTIL = Kind(
    name="distil",
    logged=True,
    config=DistilConfig,
    experiment="kd.experiments.distil:Distillation",
    help="distil a student from a teacher, train its control, and store the run",
    default_name=_default_name,
    title=_title,
    check_teacher=_check_teacher,
    live=True,
    models=_models,
    page="distil",
    replay=True,
    leaves_student=True,
    comparable=True,
    compressible=True,
    control_note=_control_note,
)
