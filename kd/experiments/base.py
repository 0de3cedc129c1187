"""The code that all experiments share.

An experiment puts a config's models, data and teacher into the training loop and measures the
result. The app's worker and the command line run the same experiments, so that the same config
gives the same weights from both.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
import torchvision
from torch import Tensor, nn

from kd.config.base import Settings
from kd.config.compress import CompressConfig
from kd.config.distil import DistilConfig
from kd.config.mistake import MistakeConfig
from kd.data import transfer_set
from kd.data.digits import Digits, Mnist
from kd.errors import UserError
from kd.metrics import classification
from kd.models import inference
from kd.randomness import generator
from kd.teachers.averaged import MeanTeacher
from kd.teachers.cached import CachedTeacher
from kd.training.loop import Plan, Record, every_epoch
from kd.training.stages import Chain, Stage

#: A teacher that is a network, or the mean of several, and keeps its logits.
NetworkTeacher = CachedTeacher | MeanTeacher


@dataclass(frozen=True)
class Series:
    """One point of each curve of a learner, cell or trial, for the logs of other programs.

    Attributes:
        name: of the learner, cell or trial; empty for what concerns the whole run.
        step: optimizer steps done in its training.
        values: measure -> value; measures are grouped by the part before "/", as in "accuracy/validation".
        settings: those of a cell or a trial; empty for the learners of a run, which share the run's.
        ended: whether this is its last point.
    """

    name: str
    step: int
    values: Mapping[str, float]
    settings: Mapping[str, Any] = field(default_factory=dict)
    ended: bool = False


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

    def series(self, record: Record) -> list[Series]:
        """Return what the charts show of a record: for each learner, and for the whole run."""
        values: dict[str, dict[str, float]] = collections.defaultdict(dict)
        values[""]["speed/images per second"] = record.images_per_second
        for name, accuracy in record.train_accuracy.items():
            values[name]["accuracy/training"] = accuracy
        for name, accuracy in record.validation_accuracy.items():
            values[name]["accuracy/validation"] = accuracy
        for key, loss in record.losses.items():
            name, _, term = key.partition(" ")
            values[name][f"loss/{term or 'loss'}"] = loss
        for key, value in record.fidelity.items():
            measure, _, name = key.partition(" ")
            values[name][f"fidelity/{measure}"] = value
        return [Series(name, record.step, found) for name, found in values.items()]

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
