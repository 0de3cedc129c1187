"""Experiments: a distillation with its control, the training of a teacher, and their base class.

An experiment puts a config's models, data and teacher into the training loop and measures the
result. The app's worker and the command line run the same experiments, so that the same config
gives the same weights from both.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Generator, Mapping
from typing import Any, Protocol

import torch
import torchvision
from torch import Tensor, nn

from kd.config.base import Settings
from kd.config.compress import CompressConfig
from kd.config.distil import DistilConfig
from kd.config.mistake import MistakeConfig
from kd.config.schemes import SCHEMES
from kd.config.teacher import TeacherConfig
from kd.data import transfer_set
from kd.data.digits import Digits, Mnist
from kd.device import training_device
from kd.errors import UserError
from kd.metrics import classification
from kd.models import inference, registry
from kd.objectives import METHODS, labels_only, self_distillation
from kd.objectives.feature_matching import connect, exits
from kd.randomness import generator, seed
from kd.teachers.averaged import MeanTeacher
from kd.teachers.cached import CachedTeacher
from kd.training.learner import Learner
from kd.training.loop import Plan, Record, every_epoch
from kd.training.stages import Chain, Stage

#: A teacher that is a network, or the mean of several, and keeps its logits.
NetworkTeacher = CachedTeacher | MeanTeacher


class ExperimentTraining(Protocol):
    """A training that an experiment drives: kd.training.stages.Chain, or many trainings driven like one."""

    @property
    def settings(self) -> dict[str, float]:
        """The settings of the objectives that are in force."""

    @property
    def step(self) -> int:
        """Optimizer steps done."""

    @property
    def steps(self) -> int:
        """Optimizer steps in all."""

    @property
    def trained(self) -> Mapping[str, nn.Module]:
        """All networks, by the learners' names."""

    def records(self, due: Callable[[int], bool] = every_epoch) -> Generator[Record, None, None]:
        """Train from the current state to the end."""

    def state(self) -> dict[str, Tensor]:
        """Return all that is needed to resume, as tensors by name."""

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Restore a state that state() returned."""


def few_labels(digits: Digits, config: DistilConfig | CompressConfig | MistakeConfig) -> Digits:
    """Return the digits with as many labels as the config says.

    A seed labels the same images in every kind of run.

    Raises:
        UserError: there are fewer digits.
    """
    if not config.labels:
        return digits
    return transfer_set.with_labels(digits, config.labels, generator(config.seed, "labels"))


def environment(digits: Digits) -> dict[str, Any]:
    """Return the ``device`` and the ``versions`` with which something is measured."""
    return {
        "device": str(digits.labels.device),
        "versions": {"torch": torch.__version__, "torchvision": torchvision.__version__},
    }


class Experiment:
    """One run, from the initial weights to its measures.

    ``stages`` say which networks are trained; ``reference`` is the teacher to compare them with, or
    None; ``teacher`` is the teacher that they learn from, or None.
    """

    config: Settings
    mnist: Mnist
    stages: list[Stage]
    reference: NetworkTeacher | None
    teacher: NetworkTeacher | None
    transfer: Mnist  # ``mnist`` with the images and labels that are trained on
    plan: Plan
    settings: dict[str, float]
    training: ExperimentTraining | None = None  # set by records()
    owner: str | None = None  # the digest of the token that owns the runs that it stores itself, if any

    def records(
        self, due: Callable[[int], bool] = every_epoch, state: Mapping[str, Tensor] | None = None
    ) -> Generator[Record, None, None]:
        """Train from the beginning, or from a checkpoint's ``state``.

        Args:
            due: step -> whether to yield a record after it; the ends of epochs always yield one.
            state: the state to resume from, or None.

        Raises:
            UserError: the checkpoint is damaged or belongs to another training.
        """
        self.training = self._training()
        if state is not None:
            try:
                self.training.restore(state)
                if not 0 < self.training.step <= self.training.steps or not all(
                    map(math.isfinite, self.training.settings.values())
                ):
                    raise ValueError
            except UserError:
                raise
            except (KeyError, IndexError, ArithmeticError, RuntimeError, TypeError, ValueError) as error:
                raise UserError(
                    "The checkpoint is damaged or belongs to another training. Start a new run."
                ) from error
        return self.training.records(due)

    def _training(self) -> ExperimentTraining:
        return Chain(self.stages, self.transfer, self.plan, self.settings)

    @property
    def trained(self) -> Mapping[str, nn.Module]:
        """All networks, by the learners' names."""
        if self.training is None:
            self.training = self._training()
        return self.training.trained

    @property
    def tensors(self) -> Mapping[str, Mapping[str, Tensor]]:
        """Further tensors to store with the run: name of a safetensors file -> its contents."""
        return {}

    def measures(self, last: Record | None) -> dict[str, Any]:
        """Measure all networks on the test set. Only this method reads it.

        Args:
            last: the last record of the training, if there is one.
        """
        test = self.mnist.test
        logits = {
            name: inference.logits_in_chunks(model, test.inputs(), 512)
            for name, model in self.trained.items()
        }
        if self.reference:
            logits["teacher"] = self.reference.logits(test)
            self.reference.keep()
        return {
            "seconds": last.seconds if last else 0.0,
            "steps": last.step if last else 0,
            "source": self.mnist.source,
            "data": self.mnist.digest,
            "train_images": len(self.transfer.train),
            "test_images": len(test),
            **environment(test),
            "models": {
                name: classification.scores(outputs, test.labels, logits["teacher"])
                for name, outputs in logits.items()
            },
        }


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
        )
        self.settings = {}
