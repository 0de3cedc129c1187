"""A kind of run: all that the rest of the program needs to know about it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kd.config.base import Settings

#: The most characters that a run's name can have.
NAME_LENGTH = 60


def no_check(config: Any, architecture: str) -> None:
    """Accept every teacher."""


def student_and_control(config: Any, measures: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the networks of a run that always trains a student and its control."""
    return ("student", "control")


def no_networks(config: Any, measures: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the networks of a run that stores none."""
    return ()


def architecture_of_student(config: Any, measures: Mapping[str, Any]) -> str:
    """Return the student's architecture."""
    return config.student


def epochs_kept(rows: Sequence[Mapping[str, float]]) -> str:
    """Return how much training a checkpoint holds, such as "2 epochs"."""
    return f"{int(rows[-1]['epoch'])} epochs"


def share_kept(what: str) -> Callable[[Sequence[Mapping[str, float]]], str]:
    """Return a function that formats how much a checkpoint holds, such as "50% of the sweep"."""
    return lambda rows: f"{rows[-1]['epoch']:.0%} of the {what}"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of run. Everything that differs between kinds is a field here.

    Functions take the run's config as ``Any``, since each kind has a config class of its own.
    """

    # -- what it is --------------------------------------------------------------------
    name: str  #: used on disk, and as the ``python -m kd`` command that starts and resumes it
    config: type[Settings]
    #: The class that trains it, as "module:name", imported when needed. Empty: it is not trained here.
    experiment: str = ""
    #: One line for ``python -m kd --help``, which makes the kind a command with its settings as options;
    #: empty: it has no command, or one of its own in kd/cli, as a search has.
    help: str = ""
    default_name: Callable[[Any], str]
    #: Return a run's settings in one line. The second argument maps a teacher's name or run id to its title.
    title: Callable[[Any, Callable[[str], str]], str]

    # -- how it trains -----------------------------------------------------------------
    has_teacher: bool = True  #: its config names a trained teacher
    #: Raise a UserError if a teacher of this architecture does not fit the config.
    check_teacher: Callable[[Any, str], None] = no_check
    live: bool = False  #: temperature and soft weight can change while it trains
    distributed: bool = False  #: several processes can train it together
    logged: bool = False  #: its command can write logs for TensorBoard and MLflow
    few_learners: bool = True  #: a progress line has room for all of its networks

    # -- what it stores ----------------------------------------------------------------
    columns: tuple[str, ...] = ()  #: of its metrics, in addition to those of every kind
    stages: bool = False  #: its measures hold size, latency and accuracy at each stage
    #: Return the names of the stored networks. The measures are empty if the run was interrupted.
    models: Callable[[Any, Mapping[str, Any]], tuple[str, ...]] = student_and_control
    architecture: Callable[[Any, Mapping[str, Any]], str] = architecture_of_student
    #: Return how much training a checkpoint with these rows of metrics holds.
    kept: Callable[[Sequence[Mapping[str, float]]], str] = epochs_kept

    # -- how it is shown ---------------------------------------------------------------
    #: The page that opens its runs: a folder of kd/ui whose page.py has open_run(id, config); empty: none.
    page: str = ""
    elsewhere: str = ""  #: completes "This run ..." on the Distil page if another page shows it
    progress: str = ""  #: shown as "50% of the ...", such as "sweep"; empty: progress is in epochs
    replay: bool = False  #: its curves are loss and accuracy over the epochs, and can be played back
    leaves_student: bool = False  #: it can store a student that classifies drawings
    comparable: bool = False  #: its networks can be measured and compared with those of other runs
    compressible: bool = False  #: its networks can be compressed
    taught_by: str = ""  #: the method shown in a table, where the config has none
    #: Return a sentence or two on how the control differs from the student.
    control_note: Callable[[Any], str] = lambda config: ""

    def build(self, config: Settings, mnist: Any, teacher: Any) -> Any:
        """Return the experiment that ``config`` describes, an instance of kd.experiments.base.Experiment.

        Args:
            teacher: the teacher that the config names; ignored if ``has_teacher`` is False.

        Raises:
            UserError: the experiment cannot be built from this config, data and teacher.
        """
        module, _, name = self.experiment.partition(":")
        experiment = getattr(importlib.import_module(module), name)
        return experiment(config, mnist, teacher) if self.has_teacher else experiment(config, mnist)

    def position(self, epoch: float, total_epochs: int) -> str:
        """Return where a run stands, such as "epoch 1.50 of 5" or "42% of the sweep"."""
        return (
            f"{epoch:.0%} of the {self.progress}" if self.progress else f"epoch {epoch:.2f} of {total_epochs}"
        )


def short(name: str) -> str:
    """Return the short name of a setting."""
    return SHORT.get(name, name.replace("_", " "))


#: The short names that differ from the names of the fields.
SHORT = {"temperature": "T", "nontarget_weight": "non-target weight", "jsd_mix": "mix"}


def settings_line(settings: Mapping[str, float]) -> str:
    """Return settings in a line, such as "T = 4, soft weight = 0.9"."""
    return ", ".join(f"{short(name)} = {value:g}" for name, value in settings.items())


def plural(count: int, noun: str) -> str:
    """Return a count with its noun, such as "1 seed" or "3 seeds"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
