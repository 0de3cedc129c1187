"""Train one group of a sweep's cells, in this process or another one.

A cell gives what `kd distil` with its settings gives, within rounding: the seed fixes the initial
weights and the batches.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from kd.config.sweep import SweepConfig
from kd.data.digits import Digits, Mnist
from kd.device import training_device
from kd.experiments.distil import Distillation
from kd.metrics import classification
from kd.models import inference, registry
from kd.objectives import METHODS, labels_only
from kd.sweeps import sweep_weights
from kd.sweeps.sweep_cells import Group, SweepCell, batchable, cells, groups
from kd.sweeps.sweep_weights import Weights
from kd.sweeps.together import BatchedTraining
from kd.training.learner import Learner
from kd.training.loop import Record, Training

#: The result of a cell: ``cell``, its index; ``seconds``, its share of the group's training time;
#: ``validation_accuracy`` and ``validation_agreement``; and, on the test images (see
#: kd.metrics.classification.scores), ``test_accuracy``, ``test_errors``, ``agreement`` with the teacher
#: and ``kl``. A cell whose weights or measures are not finite has only ``cell``, ``seconds`` and
#: ``diverged``, which is 1.
Outcome = dict[str, float]


def start(group: Group, mnist: Mnist, teacher: Any) -> Training:
    """Return the training of a group, whose learners are named by their place in it: "0", "1", ...

    Args:
        group: the cells.
        mnist: the data.
        teacher: a kd.training.loop.Teacher; it needs an ``architecture`` if a method uses hidden layers.

    Raises:
        UserError: the settings do not fit the data.
    """
    first = group.cells[0]
    run = Distillation(first.config, mnist, teacher)
    if batchable(first):
        learners = [
            Learner(
                str(i),
                registry.build(cell.config.student, cell.config.seed).to(training_device()),
                _objective(cell),
                settings=_settings(cell),
            )
            for i, cell in enumerate(group.cells)
        ]
        return BatchedTraining(learners, run.transfer, run.plan, teacher)
    (student, control), _ = run.stages[0]({})
    learner = dataclasses.replace(control if first.control else student, name="0")
    return Training([learner], run.transfer, run.plan, run.settings, teacher)


def _objective(cell: SweepCell) -> Any:
    return labels_only if cell.control else METHODS[cell.config.method].objective


def _settings(cell: SweepCell) -> dict[str, float]:
    return {name: getattr(cell.config, name) for name in METHODS[cell.config.method].settings}


def outcomes(group: Group, training: Training, mnist: Mnist, teacher: Any) -> list[Outcome]:
    """Return the outcomes of a group whose training has ended. Only this function reads the test set.

    Each network classifies the test images alone, as it is stored and loaded: in a batched
    computation sums may round differently, and an ambiguous image could be classified differently
    than by the run that a cell is opened as.
    """
    validation, test = mnist.validation, mnist.test
    predictions = _logits(training, validation).argmax(2)
    validation_errors = (predictions != validation.labels).sum(1).tolist()
    agreement = (predictions == teacher.logits(validation).argmax(1)).double().mean(1).tolist()
    teacher_logits, inputs = teacher.logits(test), test.inputs()
    result: list[Outcome] = []
    for i, (cell, learner) in enumerate(zip(group.cells, training.learners)):
        outcome: Outcome = {"cell": cell.index, "seconds": training.seconds / len(group.cells)}
        result.append(outcome)
        if not sweep_weights.finite(learner.model):
            outcome["diverged"] = 1
            continue
        network = registry.as_stored(learner.model, cell.config.student).to(inputs.device)
        logits = inference.logits_in_chunks(network, inputs, 512)
        measures = {
            "validation_accuracy": 1 - validation_errors[i] / len(validation),
            "validation_agreement": agreement[i],
        } | classification.scores(logits, test.labels, teacher_logits)
        outcome |= measures if all(map(math.isfinite, measures.values())) else {"diverged": 1}
    return result


def _logits(training: Training, digits: Digits) -> Tensor:
    """Return the logits (L, N, 10) of all learners."""
    if isinstance(training, BatchedTraining):
        return training.logits(digits)
    return torch.stack(
        [inference.logits_in_chunks(learner.model, digits.inputs(), 512) for learner in training.learners]
    )


class LogitsTeacher:
    """A teacher that consists of its logits, for other processes that have nothing else of it.

    Args:
        logits: "train" (60000, 10) and "test" (10000, 10), indexed by the images' ids.
    """

    architecture = ""  # its hidden layers are not available

    def __init__(self, logits: Mapping[str, Tensor]):
        self._logits = logits

    def logits(self, digits: Digits) -> Tensor:
        """Return the logits (N, 10) of the images."""
        return self._logits[digits.file][digits.ids]


def run_group(
    config: Mapping[str, Any],
    index: int,
    mnist: Mnist,
    teacher: Any,
    note: Callable[[Record], None] = lambda record: None,
    weights: Weights | None = None,
) -> list[Outcome]:
    """Train one group from start to end.

    Args:
        config: SweepConfig.to_dict().
        index: the group's index.
        mnist: the data.
        teacher: a LogitsTeacher, or a CachedTeacher if a method uses hidden layers.
        note: called with the record of each epoch.
        weights: filled with the weights that the sweep keeps.

    Returns:
        The outcomes of the group's cells, in order.
    """
    settings = SweepConfig.from_dict(config)
    group = groups(settings)[index]
    mnist = mnist.to(training_device())
    training = start(group, mnist, teacher)
    for record in training.records():
        note(record)
    if weights is not None:
        weights |= sweep_weights.of(group.cells, training, sweep_weights.kept(cells(settings)))
    return outcomes(group, training, mnist, teacher)
