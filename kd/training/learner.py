"""One learner in training: its model, its objective, its optimizer and its running means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from kd.data.digits import UNLABELLED
from kd.models.inference import Outputs
from kd.objectives import Objective
from kd.objectives.feature_matching import Connection
from kd.objectives.gradients import output_gradients
from kd.training.distributed import Ranks
from kd.training.forward_backward import Key, choose_passes
from kd.training.optimizers import OPTIMIZERS

STEPS_PER_SUM = 64  # steps whose losses and outputs are summed at once


@dataclass
class Learner:
    """A model in training, and what it learns from.

    Attributes:
        name: "student", "control" or "teacher", or a name that a scheme gives.
        model: trained in place.
        objective: computes the terms of its loss.
        connection: compares its hidden layers with the teacher's; its projection is trained too.
        peer: the name of the learner that teaches it instead of the teacher, or "".
        settings: the values that its objective reads; None for those of the training.
    """

    name: str
    model: nn.Module
    objective: Objective
    connection: Connection | None = None
    peer: str = ""
    settings: Mapping[str, float] | None = None


class Step(NamedTuple):
    """The inputs of one optimizer step.

    Attributes:
        images: (N, C, H, W), normalized.
        labels: class indices (N,), UNLABELLED for images without a label.
        teacher: the teacher's outputs for the images, or None.
        key: seeds the step's dropout masks.
        settings: the values that the objectives read, such as temperature.
        learning_rate: the learning rate of this step.
    """

    images: Tensor
    labels: Tensor
    teacher: Outputs | None
    key: Key
    settings: Mapping[str, float]
    learning_rate: float


class Trainable(Protocol):
    """One learner, or many learners computed as one batch, updated by a Training at each step."""

    @property
    def name(self) -> str:
        """The name of its tensors in a checkpoint."""

    @property
    def parameters(self) -> list[Tensor]:
        """All tensors that are trained."""

    @property
    def means(self) -> RunningMeans:
        """Its losses and accuracy since the last record."""

    @property
    def moments(self) -> list[Tensor]:
        """The tensors of the optimizer's state, for saving and for restoring in place."""

    def step(self, step: Step) -> None:
        """Take one optimizer step."""


class LearnerState:
    """A learner with its own optimizer. Its steps do not depend on other learners, unless one is its peer.

    Args:
        learner: the model and what it learns from.
        optimizer: a name in OPTIMIZERS.
        ranks: the processes that share the training.
        precision: a name in kd.training.forward_backward.PRECISIONS.
    """

    def __init__(self, learner: Learner, optimizer: str, ranks: Ranks, precision: str = "float32"):
        self.name, self.means = learner.name, RunningMeans(learner.name)
        self._learner, self._ranks = learner, ranks
        self._passes = choose_passes(learner.model, precision)
        self.parameters: list[Tensor] = [*self._passes.parameters]
        if learner.connection and learner.connection.projection:
            self.parameters += learner.connection.projection.parameters()
        self._optimizer = OPTIMIZERS[optimizer](self.parameters)

    @property
    def moments(self) -> list[Tensor]:
        """The tensors of the optimizer's state, for saving and for restoring in place."""
        return self._optimizer.state

    def step(self, step: Step) -> None:
        """Take one optimizer step, taught by the teacher."""
        self.update(self.forward(step), step.teacher, step)

    def forward(self, step: Step) -> Outputs:
        """Return the model's outputs for the step's images, detached.

        They include the hidden layers if the objective compares them.
        """
        return self._passes.outputs(step.images, step.key, self._learner.connection is not None)

    def update(self, outputs: Outputs, teacher: Outputs | None, step: Step) -> None:
        """Take one optimizer step from the model's last ``outputs`` and those of its teacher or peer."""
        learner, count = self._learner, len(step.images)
        terms, outputs_gradient, projection_gradients = output_gradients(
            learner.objective,
            outputs,
            teacher,
            step.labels,
            learner.settings or step.settings,
            learner.connection,
        )
        gradients = [*self._passes.gradients(outputs_gradient), *projection_gradients]
        self._optimizer.step(self._ranks.summed(gradients, count), step.learning_rate)
        self.means.add(self._ranks.weighted(terms, count), outputs.logits, step.labels)


class RunningMeans:
    """The means of a learner's losses, and its training accuracy, since the last record.

    add() only stores the values of a step. They are summed once every STEPS_PER_SUM steps, so that no
    step waits for a result.
    """

    def __init__(self, name: str):
        self._name = name
        self.reset()

    def reset(self) -> None:
        """Forget all steps so far."""
        self._steps = 0
        self._losses: dict[str, list[Tensor]] = {}
        self._logits: list[Tensor] = []
        self._labels: list[Tensor] = []
        self._correct: list[Tensor] = []
        self._labelled: list[Tensor] = []

    def add(self, terms: Mapping[str, Tensor], logits: Tensor, labels: Tensor) -> None:
        """Add one step: its loss terms (scalars by name), logits (N, C) and labels (N,)."""
        self._steps += 1
        for name, term in terms.items():
            self._losses.setdefault(name, []).append(term)
        self._logits.append(logits)
        self._labels.append(labels)
        if len(self._labels) == STEPS_PER_SUM:
            self._sum()

    def _sum(self) -> None:
        labels = torch.cat(self._labels)
        self._correct.append((torch.cat(self._logits).argmax(1) == labels).sum())
        self._labelled.append((labels != UNLABELLED).sum())
        self._logits.clear()
        self._labels.clear()
        for name, losses in self._losses.items():
            self._losses[name] = [torch.stack(losses).sum()]

    def means(self, total: Callable[[Tensor], Tensor]) -> tuple[dict[str, float], dict[str, float]]:
        """Return the mean losses and the training accuracy.

        Args:
            total: sums a tensor over all processes.

        Returns:
            The mean of each loss term, keyed by "<learner> <term>"; and the accuracy on the labelled
            images (from 0 to 1), keyed by learner. The accuracy is left out if no image had a label;
            both dicts are empty if there was no step.
        """
        if not self._steps:
            return {}, {}
        if self._labels:
            self._sum()
        counts = torch.stack(
            [
                torch.stack(self._labelled).sum(),
                torch.stack(self._correct).sum(),
                *(sums[0] for sums in self._losses.values()),
            ]
        )
        labelled, correct, *losses = total(counts).tolist()
        return (
            {f"{self._name} {name}": loss / self._steps for name, loss in zip(self._losses, losses)},
            {self._name: correct / labelled} if labelled else {},
        )
