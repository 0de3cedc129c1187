"""The one training loop, a generator of records.

Teachers, students and their controls all train here. Whoever drives the generator
decides when it goes on: not asking for the next record is a pause, closing it is a
stop, and what is sent into it changes the settings.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Callable, Generator, Iterator, Mapping, Protocol

import torch
from torch import Tensor, nn

from kd import measure, memory
from kd.batched import parallel
from kd.connection import Connection, View
from kd.data import AUGMENTATIONS, UNLABELLED, Digits, Mnist
from kd.distributed import Ranks
from kd.errors import UserError
from kd.models import logits_in_chunks
from kd.objectives import Objective, Outputs
from kd.objectives.gradients import wanted
from kd.optimizers import OPTIMIZERS
from kd.randomness import generator

WARM_UP = 0.2  # share of the steps in which the learning rate rises
BLOCK = 2048  # images, about, that are gathered and normalized at once: what fits the cache


@dataclass
class Learner:
    """A model in training, and what it is taught by."""

    name: str  # "student", "control" or "teacher"
    model: nn.Module
    objective: Objective
    connection: Connection | None = None  # with the teacher's hidden layers; its projection is trained too
    peer: str = ""  # the learner whose answers it learns from instead of the teacher's
    settings: Mapping[str, float] | None = None  # that its objective reads instead of the training's


class Teacher(Protocol):
    """What a training asks of a teacher, for the digits in their order."""

    def logits(self, digits: Digits) -> Tensor:
        """(N, 10)."""

    def outputs(self, digits: Digits, view: View) -> Outputs:
        """The same, with (N, D) for each layer of the view."""


@dataclass(frozen=True)
class Record:
    """One point of the charts."""

    step: int  # optimizer steps done
    steps: int  # of how many
    epoch: float  # epochs done
    seconds: float  # spent training and measuring, pauses left out
    images_per_second: float  # since the record before
    losses: Mapping[str, float]  # "student soft" -> mean since the record before
    train_accuracy: Mapping[str, float]  # learner -> share right of the labelled images since the record before
    validation_accuracy: Mapping[str, float]  # learner -> share right
    whole_validation: bool  # on all validation images, or on the fixed 1,000
    fidelity: Mapping[str, float] = field(default_factory=dict)  # "agreement student", "kl student", "ece student", on the same images

    def row(self) -> dict[str, float]:
        """The record as one flat row of metrics.csv."""
        return {
            "step": self.step,
            "epoch": self.epoch,
            "seconds": self.seconds,
            "images_per_second": self.images_per_second,
            **{f"loss {name}": value for name, value in self.losses.items()},
            **{f"train {name}": value for name, value in self.train_accuracy.items()},
            **{f"validation {name}": value for name, value in self.validation_accuracy.items()},
            **self.fidelity,
            "whole_validation": float(self.whole_validation),
        }


@dataclass(frozen=True)
class Plan:
    """The settings of a training that stay fixed."""

    epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    augmentation: str = "none"
    schedule: tuple[tuple[int, str, float], ...] = field(default=())
    optimizer: str = "adamw"


class Diverged(UserError):
    """Training gave a number that is not finite. The models are as they were at the last record before."""


def learning_rate_at(step: int, steps: int, peak: float) -> float:
    """The learning rate of step ``step`` (from 0) of ``steps``: a linear rise, then a cosine fall to 0."""
    rise = max(1, round(WARM_UP * steps))
    if step < rise:
        return peak * (step + 1) / rise
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rise + 1) / (steps - rise + 1)))


def every_epoch(step: int) -> bool:
    """The cadence with records at the ends of epochs alone."""
    return False


def accuracy(model: nn.Module, digits: Digits) -> float:
    """The share of ``digits`` that ``model`` classifies right. Leaves the model's mode as it was."""
    return (logits_in_chunks(model, digits.inputs(), 512).argmax(1) == digits.labels).float().mean().item()


class Training:
    """The training of all ``learners`` on the same batches in the same order.

    Args:
        settings: what the objectives read (temperature, soft_weight).
        teacher: answers about the batches' digits; asked only as batches come. At most one
            learner is connected with its hidden layers.

    Raises:
        UserError: the batch size is larger than the data, or the memory would not suffice.
    """

    _parallel = staticmethod(parallel)  # how the models are computed

    def __init__(
        self,
        learners: list[Learner],
        mnist: Mnist,
        plan: Plan,
        settings: Mapping[str, float],
        teacher: Teacher | None = None,
    ):
        if plan.batch_size > len(mnist.train):
            raise UserError(
                f"Batch size is {plan.batch_size:,}, but there are only {len(mnist.train):,} training images; choose a smaller one."
            )
        few = int((mnist.train.labels != UNLABELLED).sum()) < len(mnist.train)  # each batch then has a second one of labelled images
        memory.check([learner.model for learner in learners], plan.batch_size * (1 + few), mnist.train.images.device)
        self.learners, self.mnist, self.plan, self.teacher = learners, mnist, plan, teacher
        self.settings = {**settings, **_changes_after(0, plan.schedule)}
        self.step, self.seconds = 0, 0.0
        self.steps_per_epoch = math.ceil(len(mnist.train) / plan.batch_size)
        self.steps = plan.epochs * self.steps_per_epoch
        self._ranks = Ranks()
        for learner in learners:
            self._ranks.spread(learner.model)
        self._networks = self._parallel([learner.model for learner in learners])
        connections = [learner.connection for learner in learners]
        self._connected = [connection is not None for connection in connections]
        self._peers = any(learner.peer for learner in learners)
        self._view = next((connection.teacher for connection in connections if connection), None)
        self._projections = nn.ModuleDict(
            {learner.name: learner.connection.projection for learner in learners if learner.connection and learner.connection.projection}
        )
        # One optimizer for all: it works on each weight alone, so that each learner gets the
        # weights that it would get by itself.
        self._others = list(self._projections.parameters())
        self._optimizer = OPTIMIZERS[plan.optimizer](self._networks.parameters + self._others)
        self._good: list[dict[str, Tensor]] = [{} for _ in learners]

    def records(self, due: Callable[[int], bool] = every_epoch) -> Generator[Record, Mapping[str, float] | None, None]:
        """Trains, from where it stands to the end.

        Yields a Record at the end of each epoch and after every step for which
        ``due(step)`` is true. What is sent in, such as ``{"temperature": 8.0}``, holds
        from the next step on. Between the records models are in training mode.

        Raises:
            Diverged: a loss or a weight was not finite; seen before the next record.
        """
        for learner in self.learners:
            learner.model.train()
        self._remember()
        since, started = _Sums(), time.perf_counter()
        for images, labels, taught in self._batches():
            self._train(images, labels, taught, since)
            epoch_ends = self.step % self.steps_per_epoch == 0
            if epoch_ends or due(self.step):
                losses, train_accuracy = since.means(self._ranks.total)
                self._check(losses)
                measured, fidelity = self._judge(self.mnist.validation if epoch_ends else self.mnist.glance)
                now = time.perf_counter()
                self.seconds += now - started
                record = Record(
                    self.step, self.steps, self.step / self.steps_per_epoch, self.seconds, since.images / (now - since.started),
                    losses, train_accuracy, measured, epoch_ends, fidelity,
                )
                self._remember()
                self.settings.update((yield record) or {})
                since, started = _Sums(), time.perf_counter()

    def _remember(self) -> None:
        """Keeps the weights as they are, to go back to where training goes out of bounds."""
        for learner, kept in zip(self.learners, self._good):
            for key, value in learner.model.state_dict().items():
                kept[key] = kept[key].copy_(value) if key in kept else value.clone()

    def _check(self, losses: Mapping[str, float]) -> None:
        """Raises Diverged, with the weights of the last record, where something is not finite."""
        # A step can spoil the weights without a loss that shows it yet; what batch normalization counts too.
        learned = [*self._networks.parameters, *self._others, *(buffer for learner in self.learners for buffer in learner.model.buffers())]
        if all(map(math.isfinite, losses.values())) and _finite(learned):
            return
        for learner, weights in zip(self.learners, self._good):
            learner.model.load_state_dict(weights)
        raise Diverged(f"Training went out of bounds after {self.step:,} steps (a loss is not a number); try a lower learning rate.")

    def _judge(self, digits: Digits) -> tuple[dict[str, float], dict[str, float]]:
        """Accuracy by learner; agreement with the teacher, where there is one, and calibration."""
        inputs, found, fidelity = digits.inputs(), {}, {}
        taught = self.teacher.logits(digits) if self.teacher else None
        for learner in self.learners:
            logits = logits_in_chunks(learner.model, inputs, 512)
            found[learner.name] = (logits.argmax(1) == digits.labels).float().mean().item()
            measured = (measure.fidelity(logits, taught) if taught is not None else {}) | {"ece": measure.ece(logits, digits.labels)}
            # Just before a training is found to have gone out of bounds some may be no numbers.
            fidelity |= {f"{what} {learner.name}": value for what, value in measured.items() if math.isfinite(value)}
        return found, fidelity

    def _batches(self) -> Iterator[tuple[Tensor, Tensor, Outputs | None]]:
        """Images, labels and what the teacher says of all batches that are still to come.

        They are gathered by the block, several batches at once: what depends on random
        numbers depends on (seed, epoch, block) alone, so that any step can be the first.
        Where only some images have labels, each batch has a second batch of labelled ones
        after it: by chance alone, most batches would have none.
        """
        train, plan = self.mnist.train, self.plan
        augment = AUGMENTATIONS[plan.augmentation]
        batches = max(1, BLOCK // plan.batch_size)  # a block
        labelled = (train.labels != UNLABELLED).nonzero().squeeze(1)
        extra = 0 if len(labelled) == len(train) else min(plan.batch_size, len(labelled))
        for epoch in range(self.step // self.steps_per_epoch, plan.epochs):
            order = torch.randperm(len(train), generator=generator(plan.seed, "order", epoch)).to(train.labels.device)
            for block, places in enumerate(order.split(plan.batch_size * batches)):
                first = epoch * self.steps_per_epoch + block * batches
                if self.step >= first + batches:
                    continue  # done before a checkpoint
                groups = list(places.split(plan.batch_size))
                if extra:
                    draw = generator(plan.seed, "labelled", epoch, block)
                    groups = [torch.cat([group, labelled[torch.randperm(len(labelled), generator=draw)[:extra]]]) for group in groups]
                digits = train.take(torch.cat(groups))
                if augment:
                    digits = augment(digits, generator(plan.seed, "augment", epoch, block))
                digits, sizes = self._ranks.share(digits, [len(group) for group in groups])
                parts = [digits.inputs(), digits.labels]
                if self.teacher:
                    said = self.teacher.outputs(digits, self._view) if self._view else Outputs(self.teacher.logits(digits))
                    parts += [said.logits, *said.features]
                for images, labels, *taught in list(zip(*(part.split(sizes) for part in parts)))[self.step - first :]:
                    yield images, labels, Outputs(taught[0], tuple(taught[1:])) if taught else None

    def _train(self, images: Tensor, labels: Tensor, taught: Outputs | None, since: _Sums) -> None:
        """One optimizer step."""
        whole = self._ranks.begin(images)
        answers = self._networks.outputs(images, (self.plan.seed, "dropout", self.step), self._connected)
        # A peer is looked at as it is: its learning from this student is its own matter.
        peers = {learner.name: Outputs(said.logits) for learner, said in zip(self.learners, answers)} if self._peers else {}
        by_answers, by_others = [], []
        for learner, said in zip(self.learners, answers):
            against = peers[learner.peer] if learner.peer else taught
            terms, by_said, by_projection = wanted(learner.objective, said, against, labels, learner.settings or self.settings, learner.connection)
            by_answers.append(by_said)
            by_others += by_projection
            since.add(learner.name, self._ranks.weighted(terms, len(images)), said.logits)
        gradients = self._ranks.summed([*self._networks.gradients(by_answers), *by_others], len(images))
        self._optimizer.step(gradients, learning_rate_at(self.step, self.steps, self.plan.learning_rate))
        self.step += 1
        since.batch_ends(labels, whole)
        self.settings.update(_changes_after(self.step, self.plan.schedule))

    # -- checkpoints -----------------------------------------------------------------

    def state(self) -> dict[str, Tensor]:
        """All that going on from here needs, as tensors by name. To be called between two records."""
        return {
            "step": torch.tensor(self.step),
            "seconds": torch.tensor(self.seconds, dtype=torch.float64),
            **{f"setting.{name}": torch.tensor(value, dtype=torch.float64) for name, value in self.settings.items()},
            **{f"weights.{learner.name}.{key}": value for learner in self.learners for key, value in learner.model.state_dict().items()},
            **{f"projection.{key}": value for key, value in self._projections.state_dict().items()},
            **{f"moments.{i}": value for i, value in enumerate(self._optimizer.state)},
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Takes up what state() gave, in a Training that was made with the same arguments.

        Raises:
            UserError: it is the state of another training.
        """
        def under(prefix: str) -> dict[str, Tensor]:
            return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}

        try:
            for learner in self.learners:
                learner.model.load_state_dict(under(f"weights.{learner.name}."))
            self._projections.load_state_dict(under("projection."))
            for i, value in enumerate(self._optimizer.state):
                value.copy_(state[f"moments.{i}"])
            self.settings = {name: value.item() for name, value in under("setting.").items()}
            self.step, self.seconds = int(state["step"]), float(state["seconds"])
        except (KeyError, RuntimeError) as error:
            raise UserError("The checkpoint is of another training, or of another version of the program; start the run anew.") from error


def _finite(values: list[Tensor]) -> bool:
    return bool(torch.cat([torch.stack(torch.aminmax(value.detach())).double() for value in values if value.numel()]).isfinite().all())


def _changes_after(step: int, schedule: tuple[tuple[int, str, float], ...]) -> dict[str, float]:
    """The settings that a schedule changes right after ``step`` steps."""
    return {name: value for when, name, value in schedule if when == step}


class _Sums:
    """Losses and right answers since the record before.

    Steps only put them down; they are summed by the dozen, and no step waits for them.
    """

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.images = 0
        self.steps = 0
        self._labelled: list[Tensor] = []
        self._losses: dict[str, list[Tensor]] = {}
        self._logits: dict[str, list[Tensor]] = {}
        self._labels: list[Tensor] = []
        self._right: dict[str, list[Tensor]] = {}

    def add(self, learner: str, terms: Mapping[str, Tensor], logits: Tensor) -> None:
        for name, term in terms.items():
            self._losses.setdefault(f"{learner} {name}", []).append(term)
        self._logits.setdefault(learner, []).append(logits)

    def batch_ends(self, labels: Tensor, images: int) -> None:
        self.images += images
        self.steps += 1
        self._labels.append(labels)
        if len(self._labels) == 64:
            self._sum()

    def _sum(self) -> None:
        labels = torch.cat(self._labels)
        for learner, logits in self._logits.items():
            self._right.setdefault(learner, []).append((torch.cat(logits).argmax(1) == labels).sum())
            logits.clear()
        self._labels.clear()
        self._labelled.append((labels != UNLABELLED).sum())
        for name, losses in self._losses.items():
            self._losses[name] = [torch.stack(losses).sum()]

    def means(self, total: Callable[[Tensor], Tensor]) -> tuple[dict[str, float], dict[str, float]]:
        """Of the losses, and the shares of right answers; ``total`` adds up those of all processes."""
        if self._labels:
            self._sum()
        labelled, right = torch.stack(self._labelled).sum(), [torch.stack(counts).sum() for counts in self._right.values()]
        losses = [sums[0] for sums in self._losses.values()]
        labelled, *sums = total(torch.stack([labelled, *right, *losses])).tolist()
        return (
            {name: loss / self.steps for name, loss in zip(self._losses, sums[len(right) :])},
            {name: count / labelled for name, count in zip(self._right, sums) if labelled},
        )
