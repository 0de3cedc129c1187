"""What is run: a distillation with its control, or the training of a teacher.

An experiment puts a config's models, data and teacher into the one training loop
and measures the outcome. The app's worker and the command line run the same ones,
so that the same config gives the same weights from both.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Generator, Mapping
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

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
from kd.objectives import METHODS, from_the_deepest, labels_only
from kd.objectives.feature_matching import connect, exits
from kd.randomness import generator, seed
from kd.teachers.averaged import MeanTeacher
from kd.teachers.cached import CachedTeacher
from kd.training.learner import Learner
from kd.training.loop import Plan, Record, every_epoch
from kd.training.stages import Chain, Stage


def few_labels(digits: Digits, config: DistilConfig | CompressConfig | MistakeConfig) -> Digits:
    """``digits`` with as many labels as ``config`` says. One seed labels the same images in every kind of run.

    Raises:
        UserError: there are fewer digits.
    """
    return (
        transfer_set.with_labels(digits, config.labels, generator(config.seed, "labels"))
        if config.labels
        else digits
    )


def on(digits: Digits) -> dict[str, Any]:
    """What something was measured with: ``device`` and ``versions``."""
    return {
        "device": str(digits.labels.device),
        "versions": {"torch": torch.__version__, "torchvision": torchvision.__version__},
    }


class Experiment:
    """One run, from the initial weights to its measures.

    ``stages`` say who is trained; ``reference`` is the teacher that they are held
    against, or None; ``teacher`` is the one that teaches, or None.
    """

    config: DistilConfig | TeacherConfig
    mnist: Mnist
    stages: list[Stage]
    reference: CachedTeacher | MeanTeacher | None
    teacher: CachedTeacher | MeanTeacher | None
    transfer: Mnist  # the same, with what is trained on
    plan: Plan
    settings: dict[str, float]
    training: Chain | None = None  # since records() was called
    owner: str | None = (
        None  # whose are the runs that it stores itself, where it does: the digest of their token
    )

    def records(
        self, due: Callable[[int], bool] = every_epoch, state: Mapping[str, Tensor] | None = None
    ) -> Generator[Record, None, None]:
        """The training, from its beginning or from a checkpoint's ``state``.

        Raises:
            UserError: it is the state of another training.
        """
        self.training = self._training()
        if state is not None:
            try:
                self.training.restore(state)
                if not 0 < self.training.step <= self.training.steps or not all(
                    map(math.isfinite, self.training.settings.values())
                ):
                    raise ValueError
            except (
                KeyError,
                IndexError,
                ArithmeticError,
                RuntimeError,
                TypeError,
                ValueError,
            ) as error:  # what a damaged one may hold
                if isinstance(error, UserError):
                    raise
                raise UserError(
                    "The checkpoint is damaged, or of another training; start the run anew."
                ) from error
        return self.training.records(due)

    def _training(self) -> Chain:
        return Chain(self.stages, self.transfer, self.plan, self.settings)

    @property
    def trained(self) -> dict[str, nn.Module]:
        """All networks, by the learners' names."""
        if self.training is None:
            self.training = self._training()
        return self.training.trained

    @property
    def tensors(self) -> Mapping[str, Mapping[str, Tensor]]:
        """What else is stored of the run: the name of a safetensors file -> what it holds."""
        return {}

    def measures(self, last: Record | None) -> dict[str, Any]:
        """The outcome on the test set, which is read here and nowhere else."""
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
            **on(test),
            "models": {
                name: classification.scores(said, test.labels, logits["teacher"])
                for name, said in logits.items()
            },
        }


class Distillation(Experiment):
    """A student taught by a teacher, and its control: the same initial weights and batches, labels alone.

    Where the student begins with the teacher's layers, so does its control. The gap between
    them is then what the teacher's answers add to its layers; what the layers themselves
    bring is the gap to a second run, of the same settings with random initial weights.
    A control with random weights here would mix the two up.

    Raises:
        UserError: the student cannot begin with the teacher's layers.
    """

    def __init__(self, config: DistilConfig, mnist: Mnist, teacher: CachedTeacher | MeanTeacher):
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
        self._network(config.student)  # what does not fit is told now
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
            objective = from_the_deepest(METHODS[self.config.method].objective)
            connection = exits(self.config.student, self.config.seed).to(self._device)
            return [
                Learner("student", self._network(self.config.student), objective, connection),
                self._control(),
            ], None

        return [stage]

    def _control(self) -> Learner:
        return Learner("control", self._network(self.config.student), labels_only)

    def _learner(
        self, name: str, taught_by: CachedTeacher | MeanTeacher, architecture: str | None = None
    ) -> Learner:
        """A network that learns from ``taught_by`` by the config's method."""
        method = METHODS[self.config.method]
        architecture = architecture or self.config.student
        connection = connect(method, architecture, taught_by.architecture, self.config.seed)
        return Learner(
            name, self._network(architecture), method.objective, connection and connection.to(self._device)
        )

    def _network(self, architecture: str) -> nn.Module:
        """As it begins. Of one architecture all begin alike."""
        model = registry.build(architecture, self.config.seed)
        if self.config.initialization == "teacher":
            model.load_state_dict(registry.inherited(model, self.reference.model))
        return model.to(self._device)


class TeacherTraining(Experiment):
    """A teacher trained from labels on augmented images."""

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
