"""What runs are called."""

from __future__ import annotations

from collections.abc import Mapping

from kd.config.compress import CompressConfig
from kd.config.distil import DistilConfig
from kd.config.grid import AXES, GridConfig
from kd.config.imported import ImportConfig
from kd.config.mistake import MistakeConfig
from kd.config.schemes import SCHEMES
from kd.config.search import SearchConfig
from kd.config.study import StudyConfig
from kd.figures import training
from kd.jobs.manager import Snapshot
from kd.objectives import METHODS
from kd.objectives.mistakes import MISTAKES
from kd.ui.runs import names


def title(snap: Snapshot) -> str:
    config = snap.config
    if isinstance(config, StudyConfig):
        return f"a sweep over {config.study}: {config.student} taught by {names.of_teacher(config.teacher)}, T = {config.temperature:g}, {config.seeds} seeds"
    if isinstance(config, GridConfig):
        axes = "; ".join(
            f"{GridConfig.setting(name)['label'].lower()} {getattr(config, name).replace(',', ', ')}"
            for name in AXES
            if name != "labels" or config.labels != "0"
        )
        return f"{axes}; taught by {names.of_teacher(config.teacher)}, {config.seeds} seed{'s' if config.seeds > 1 else ''} from {config.seed}, {config.epochs} epoch{'s' if config.epochs > 1 else ''}"
    if isinstance(config, SearchConfig):
        labels = f"{config.labels:,} labels, " if config.labels else ""
        return (
            f"a search among {config.methods.replace(',', ', ')} and their settings: {config.student} taught by {names.of_teacher(config.teacher)}, {labels}"
            f"up to {config.trials} trials of {config.epochs} epoch{'s' if config.epochs > 1 else ''}, seed {config.seed}"
        )
    if isinstance(config, CompressConfig):
        network = names.of_teacher(config.network)
        taken = ", ".join(
            f"{CompressConfig.setting(name)['label'].lower()} −{percent}%"
            for name, percent in config.percents.items()
            if percent
        )
        return (
            f"{network}: {taken}{'' if config.int8 == 'off' else f', int8 {config.int8}'}; recovery with {names.of_teacher(config.teacher)}, "
            f"{settings_line({'temperature': config.temperature, 'soft_weight': config.soft_weight})}, "
            f"{f'{config.labels:,}' if config.labels else 'all'} labels, {config.epochs} epochs, seed {config.seed}"
        )
    if isinstance(config, ImportConfig):
        return f"{config.network}, trained elsewhere and imported as a {config.role}"
    if isinstance(config, MistakeConfig):
        return (
            f"{config.student} taught by {names.of_teacher(config.teacher)} with a mistake ({MISTAKES[config.mistake].title}), "
            f"T = {config.temperature:g}, soft weight {config.soft_weight:g}, "
            f"{f'{config.labels:,}' if config.labels else 'all'} labels, {config.epochs} epochs, seed {config.seed}"
        )
    if isinstance(config, DistilConfig):
        more = [
            *(f"{name} {getattr(config, name)}" for name in SCHEMES[config.scheme].settings),
            "begun with the teacher's layers" if config.initialization == "teacher" else "",
            f"no {', '.join(config.omitted)}" if config.omitted else "",
            f"{config.labels:,} labels" if config.labels else "",
            f"{config.label_noise:.0%} of the labels wrong" if config.label_noise else "",
            config.augmentation if config.augmentation != "none" else "",
            "SGD" if config.optimizer == "sgd" else "",
        ]
        method = METHODS[config.method]
        scheme = SCHEMES[config.scheme]
        taught = (
            f"taught by {names.of_teacher(config.teacher)}"
            if method.teacher and scheme.teacher
            else "without a teacher"
        )
        return ", ".join(
            [
                f"{config.student} {taught}: {method.title}"
                + (f", {scheme.title.lower()}" if config.scheme != "teacher" else ""),
                settings_line({name: getattr(config, name) for name in method.settings}),
                *filter(None, more),
                f"seed {config.seed}",
            ]
        )
    return f"{config.teacher} trained from labels, augmentation {config.augmentation}, seed {config.seed}"


def settings_line(settings: Mapping[str, float]) -> str:
    """ "T = 4, soft weight = 0.9" """
    return ", ".join(f"{training.short(name)} = {value:g}" for name, value in settings.items())
