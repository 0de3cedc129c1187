"""From a config to the experiment that it describes: the one place that knows all kinds of run."""

from __future__ import annotations

from kd.config.base import Settings
from kd.config.compress import CompressConfig
from kd.config.distil import DistilConfig
from kd.config.grid import GridConfig
from kd.config.mistake import MistakeConfig
from kd.config.search import SearchConfig
from kd.config.study import StudyConfig
from kd.config.teacher import TeacherConfig
from kd.data.digits import Mnist
from kd.experiments.base import Distillation, Experiment, TeacherTraining
from kd.experiments.compression import Recovery
from kd.experiments.mistake import Breaking
from kd.experiments.study import Study
from kd.sweeps.grid import Grid
from kd.sweeps.search import Search
from kd.teachers.averaged import MeanTeacher
from kd.teachers.cached import CachedTeacher

#: Those with a teacher, which is ready trained.
_TAUGHT = {
    DistilConfig: Distillation,
    StudyConfig: Study,
    MistakeConfig: Breaking,
    CompressConfig: Recovery,
    GridConfig: Grid,
    SearchConfig: Search,
}


def has_teacher(config: Settings) -> bool:
    return type(config) in _TAUGHT


def experiment(config: Settings, mnist: Mnist, teacher: CachedTeacher | MeanTeacher | None) -> Experiment:
    """The experiment that ``config`` describes.

    Args:
        teacher: the one that it names, where it has_teacher().

    Raises:
        UserError: as the experiments do.
    """
    if isinstance(config, TeacherConfig):
        return TeacherTraining(config, mnist)
    return _TAUGHT[type(config)](config, mnist, teacher)
