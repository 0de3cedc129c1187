"""The settings of a search: the methods to choose from, and the settings of all trials."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from kd.config import fields
from kd.config.base import Settings, parts_of
from kd.config.distil import DistilConfig
from kd.config.fields import explained, setting
from kd.config.kind import NAME_LENGTH, Kind, no_networks, plural
from kd.errors import UserError

#: Limits of a search that is started in the app, where all visitors share one worker.
STARTED_TRIALS, STARTED_EPOCHS = 100, 1_000


@dataclass(frozen=True, kw_only=True)
class SearchConfig(Settings):
    """Settings of a search: see kd.sweeps.search."""

    _architectures: ClassVar = ("student",)

    student: str = fields.student("mlp-30")
    teacher: str = fields.teacher()
    trials: int = setting(30, "Trials", "The maximum number of settings to try.", 1, 1000, 1)
    methods: str = setting(
        "hinton,dist,reverse-kl,jsd",
        "Methods",
        explained("method", "The search chooses from these, separated by commas."),
    )
    labels: int = fields.labels(0)
    epochs: int = fields.epochs(5, "a trial", more=", unless it is pruned")
    batch_size: int = fields.batch_size()
    optimizer: str = fields.optimizer()
    seed: int = fields.seed(
        "Fixes the proposed settings, and each trial's initial weights and order of the images."
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
