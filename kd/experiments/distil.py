"""The experiment of a distillation: a student, by one of the schemes, and its control."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping

from torch import nn

from kd.config.distil import DistilConfig
from kd.config.schemes import SCHEMES
from kd.data import transfer_set
from kd.data.digits import Mnist
from kd.device import training_device
from kd.experiments.base import Experiment, NetworkTeacher, few_labels
from kd.models import registry
from kd.objectives import METHODS, labels_only, self_distillation
from kd.objectives.feature_matching import connect, exits
from kd.randomness import generator, seed
from kd.teachers.cached import CachedTeacher
from kd.training.learner import Learner
from kd.training.loop import Plan
from kd.training.stages import Stage


class Distillation(Experiment):
    """A student taught by a teacher, and its control: same initial weights and batches, labels alone.

    If the student starts from the teacher's layers, so does its control. The gap between them is then
    what the teacher's logits add to its layers; a second run with the same settings and random initial
    weights shows what the layers add. A control with random weights would mix the two effects.

    Raises:
        UserError: the student cannot start from the teacher's layers.
    """

    config: DistilConfig
    reference: NetworkTeacher

    def __init__(self, config: DistilConfig, mnist: Mnist, teacher: NetworkTeacher):
        device = training_device()
        method = METHODS[config.method]
        self.config, self.mnist, self.reference = config, mnist.to(device), teacher
        self.teacher = teacher if method.teacher and SCHEMES[config.scheme].teacher else None
        self._device = device
        self.stages = {
            "teacher": self._from_teacher,
            "assistant": self._through_assistant,
            "born-again": self._born_again,
            "mutual": self._mutual,
            "exits": self._with_exits,
        }[config.scheme]()
        self._network(config.student)  # raises now if it does not fit
        train = few_labels(transfer_set.without(self.mnist.train, config.omitted), config)
        if config.label_noise:
            train = transfer_set.with_wrong_labels(
                train, config.label_noise, generator(config.seed, "label noise")
            )
        self.transfer = dataclasses.replace(self.mnist, train=train)
        self.plan = Plan(
            config.epochs,
            config.batch_size,
            config.learning_rate,
            config.seed,
            config.augmentation,
            config.schedule,
            config.optimizer,
        )
        self.settings = {name: getattr(config, name) for name in method.settings}

    # -- the schemes -----------------------------------------------------------------

    def _from_teacher(self) -> list[Stage]:
        return [lambda earlier: ([self._learner("student", self.reference), self._control()], self.teacher)]

    def _through_assistant(self) -> list[Stage]:
        def last(earlier: Mapping[str, nn.Module]) -> tuple[list[Learner], CachedTeacher]:
            assistant = CachedTeacher("assistant", self.config.assistant, earlier["assistant"])
            return [self._learner("student", assistant), self._control()], assistant

        return [
            lambda earlier: (
                [self._learner("assistant", self.reference, self.config.assistant)],
                self.teacher,
            ),
            last,
        ]

    def _born_again(self) -> list[Stage]:
        names = ["control", *(f"generation-{i}" for i in range(1, self.config.generations)), "student"]

        def next_generation(before: str, name: str) -> Stage:
            def stage(earlier: Mapping[str, nn.Module]) -> tuple[list[Learner], CachedTeacher]:
                parent = CachedTeacher(before, self.config.student, earlier[before])
                return [self._learner(name, parent)], parent

            return stage

        return [
            lambda earlier: ([self._control()], None),
            *(next_generation(*pair) for pair in itertools.pairwise(names)),
        ]

    def _mutual(self) -> list[Stage]:
        def stage(earlier: Mapping[str, nn.Module]) -> tuple[list[Learner], None]:
            objective = METHODS[self.config.method].objective
            peer = registry.build(self.config.student, seed(self.config.seed, "peer")).to(self._device)
            return [
                Learner("student", self._network(self.config.student), objective, peer="peer"),
                Learner("peer", peer, objective, peer="student"),
                self._control(),
            ], None

        return [stage]

    def _with_exits(self) -> list[Stage]:
        def stage(earlier: Mapping[str, nn.Module]) -> tuple[list[Learner], None]:
            objective = self_distillation(METHODS[self.config.method].objective)
            connection = exits(self.config.student, self.config.seed).to(self._device)
            return [
                Learner("student", self._network(self.config.student), objective, connection),
                self._control(),
            ], None

        return [stage]

    def _control(self) -> Learner:
        return Learner("control", self._network(self.config.student), labels_only)

    def _learner(self, name: str, teacher: NetworkTeacher, architecture: str | None = None) -> Learner:
        """Return a network that learns from ``teacher`` with the config's method."""
        method = METHODS[self.config.method]
        architecture = architecture or self.config.student
        connection = connect(method, architecture, teacher.architecture, self.config.seed)
        return Learner(
            name, self._network(architecture), method.objective, connection and connection.to(self._device)
        )

    def _network(self, architecture: str) -> nn.Module:
        """Return a network with its initial weights, the same for all networks of one architecture."""
        model = registry.build(architecture, self.config.seed)
        if self.config.initialization == "teacher":
            model.load_state_dict(registry.inherited(model, self.reference.model))
        return model.to(self._device)
