"""The experiment of training a teacher."""

from __future__ import annotations

from kd.config.teacher import TeacherConfig
from kd.data.digits import Mnist
from kd.device import training_device
from kd.experiments.base import Experiment
from kd.models import registry
from kd.objectives import labels_only
from kd.training.learner import Learner
from kd.training.loop import Plan


class TeacherTraining(Experiment):
    """The training of a teacher from labels, on augmented images."""

    config: TeacherConfig

    def __init__(self, config: TeacherConfig, mnist: Mnist):
        device = training_device()
        self.config, self.mnist, self.reference, self.teacher = config, mnist.to(device), None, None
        self.transfer = self.mnist
        self.stages = [
            lambda earlier: (
                [Learner("teacher", registry.build(config.teacher, config.seed).to(device), labels_only)],
                None,
            )
        ]
        self.plan = Plan(
            config.epochs,
            config.batch_size,
            config.learning_rate,
            config.seed,
            config.augmentation,
            optimizer=config.optimizer,
            precision=config.precision,
        )
        self.settings = {}
