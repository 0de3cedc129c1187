"""The settings of a search: the methods to choose from, and the settings of all trials."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from kd.config.base import Settings, parts_of, setting
from kd.config.distil import DistilConfig
from kd.config.kind import NAME_LENGTH, Kind, no_networks, plural
from kd.data.task import MNIST
from kd.errors import UserError
from kd.training.optimizers import OPTIMIZERS

#: Limits of a search that is started in the app, where all visitors share one worker.
STARTED_TRIALS, STARTED_EPOCHS = 100, 1_000


@dataclass(frozen=True, kw_only=True)
class SearchConfig(Settings):
    """Settings of a search: see kd.sweeps.search."""

    _architectures: ClassVar = ("student",)

    student: str = setting("mlp-30", "Student", "The network that learns from the teacher.")
    teacher: str = setting(
        MNIST.teacher, "Teacher", "The trained network whose answers the student learns to match."
    )
    trials: int = setting(30, "Trials", "The maximum number of settings to try.", 1, 1000, 1)
    methods: str = setting(
        "hinton,dist,reverse-kl,jsd", "Methods", "The methods to choose from, separated by commas."
    )
    labels: int = setting(
        0,
        "Labels",
        "How many training images are labelled. 0 means all.",
        0,
        MNIST.train_images,
        MNIST.classes,
    )
    epochs: int = setting(
        5,
        "Epochs",
        "How many times a trial goes through all the training images, unless it is pruned.",
        1,
        200,
        1,
    )
    batch_size: int = setting(128, "Batch size", "Images per optimizer step.", 1, 4096, 1)
    optimizer: str = setting("adamw", "Optimizer", "The optimizer of all trials.", choices=tuple(OPTIMIZERS))
    seed: int = setting(
        0,
        "Seed",
        "Fixes the proposed settings, and each trial's initial weights and order of the images.",
        0,
        2**31 - 1,
        1,
    )

    #: The progress of a whole search is counted as one epoch.
    total_epochs: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        names = list(dict.fromkeys(parts_of(self.methods)))
        object.__setattr__(self, "methods", ",".join(names))
        if not names:
            raise UserError("Methods must have at least one name, such as hinton.")
        for name in names:
            self.distillation({"method": name})  # raises a UserError for a method that does not fit

    def distillation(self, proposed: Mapping[str, Any]) -> DistilConfig:
        """Return the config of a trial with these proposed settings."""
        common = {
            name: getattr(self, name)
            for name in ("student", "teacher", "labels", "epochs", "batch_size", "optimizer", "seed")
        }
        return DistilConfig(**common | dict(proposed))

    def for_visitors(self) -> None:
        if self.trials > STARTED_TRIALS:
            raise UserError(
                f"A search that is started here can have at most {STARTED_TRIALS} trials, "
                f"not {self.trials:,}; {_BY_COMMAND}"
            )
        if self.trials * self.epochs > STARTED_EPOCHS:
            raise UserError(
                f"{self.trials} trials of {self.epochs} epochs are {self.trials * self.epochs:,} epochs, "
                f"and a search that is started here can have at most {STARTED_EPOCHS:,}; "
                f"reduce one of them. {_BY_COMMAND.capitalize()}"
            )

    @property
    def command(self) -> str:
        """The command that runs this search."""
        return " ".join(
            [
                "python -m kd search",
                *(f"--{name.replace('_', '-')} {value}" for name, value in self.to_query().items()),
            ]
        )


_BY_COMMAND = "the command line, python -m kd search, has no such limit."


def _title(config: SearchConfig, named: Callable[[str], str]) -> str:
    labels = f"{config.labels:,} labels, " if config.labels else ""
    return (
        f"a search among {config.methods.replace(',', ', ')} and their settings: {config.student} taught by "
        f"{named(config.teacher)}, {labels}up to {config.trials} trials of {plural(config.epochs, 'epoch')}, "
        f"seed {config.seed}"
    )


SEARCH = Kind(
    name="search",
    config=SearchConfig,
    experiment="kd.sweeps.search:Search",
    default_name=lambda config: f"search of {config.trials:,} trials, {config.student}"[:NAME_LENGTH],
    title=_title,
    columns=("trial", "state", "again"),
    models=no_networks,
    page="sweep",
    elsewhere="is a search; the Sweep page shows it",
    progress="search",
)
