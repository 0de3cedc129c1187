"""fit(): the one training loop, a generator of records.

Teachers, students and their controls all train here. Whoever drives the generator
decides when it goes on: not asking for the next record is a pause, closing it is a
stop, and what is sent into it changes the settings.
"""

from __future__ import annotations

import hashlib
import math
import time
from dataclasses import dataclass, field
from typing import Callable, Generator, Mapping, Protocol

import torch
from torch import Tensor, nn

from kd.data import AUGMENTATIONS, Digits, Mnist
from kd.errors import UserError
from kd.models import logits_in_chunks
from kd.objectives import Objective, Outputs

WARM_UP = 0.2  # share of the steps in which the learning rate rises
BLOCK = 64  # batches that are gathered and normalized at once


@dataclass
class Learner:
    """A model in training, and what it is taught by."""

    name: str  # "student", "control" or "teacher"
    model: nn.Module
    objective: Objective


class Teacher(Protocol):
    """What fit() asks of a teacher: logits (N, 10) for the digits, in their order."""

    def logits(self, digits: Digits) -> Tensor: ...


@dataclass(frozen=True)
class Record:
    """One point of the charts."""

    step: int  # optimizer steps done
    steps: int  # of how many
    epoch: float  # epochs done
    seconds: float  # spent training and measuring, pauses left out
    images_per_second: float  # since the record before
    losses: Mapping[str, float]  # "student soft" -> mean since the record before
    train_accuracy: Mapping[str, float]  # learner -> share right since the record before
    validation_accuracy: Mapping[str, float]  # learner -> share right
    whole_validation: bool  # on all validation images, or on the fixed 1,000

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
            "whole_validation": float(self.whole_validation),
        }


@dataclass(frozen=True)
class Plan:
    """The settings of fit() that stay fixed."""

    epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    augmentation: str = "none"
    schedule: tuple[tuple[int, str, float], ...] = field(default=())


class Diverged(UserError):
    """Training gave a number that is not finite."""


def generator(*key: int | str) -> torch.Generator:
    """Random numbers that depend on ``key`` alone.

    Nothing in training depends on how many random numbers were drawn before: a run
    can be taken up at any epoch, and other threads cannot disturb it.
    """
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


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


def fit(
    learners: list[Learner],
    mnist: Mnist,
    plan: Plan,
    settings: Mapping[str, float],
    teacher: Teacher | None = None,
    due: Callable[[int], bool] = every_epoch,
) -> Generator[Record, Mapping[str, float] | None, None]:
    """Trains all ``learners`` on the same batches in the same order.

    Yields a Record at the end of each epoch and after every step for which
    ``due(step)`` is true. What is sent in, such as ``{"temperature": 8.0}``, holds
    from the next step on. Between the records models are in training mode.

    Args:
        settings: what the objectives read (temperature, soft_weight).
        teacher: gives logits for the batches' digits; asked only as batches come.

    Raises:
        Diverged: a loss was not finite; seen before the next record.
    """
    train, validation, glance = mnist.train, mnist.validation, mnist.glance
    if plan.batch_size > len(train):
        raise UserError(
            f"Batch size is {plan.batch_size:,}, but there are only {len(train):,} training images; choose a smaller one."
        )
    settings = dict(settings)
    settings.update(_changes_after(0, plan.schedule))
    augment = AUGMENTATIONS[plan.augmentation]
    steps_per_epoch = math.ceil(len(train) / plan.batch_size)
    steps = plan.epochs * steps_per_epoch

    # One optimizer for all: AdamW works on each weight alone, so that each learner
    # gets the weights that it would get by itself.
    parameters = [p for learner in learners for p in learner.model.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=plan.learning_rate, weight_decay=1e-2, fused=True)
    has_dropout = any(isinstance(m, nn.Dropout) for learner in learners for m in learner.model.modules())
    for learner in learners:
        learner.model.train()

    step, seconds, since = 0, 0.0, _Sums()
    started = time.perf_counter()
    for epoch in range(plan.epochs):
        order = torch.randperm(len(train), generator=generator(plan.seed, "order", epoch)).to(train.labels.device)
        for block, places in enumerate(order.split(plan.batch_size * BLOCK)):
            digits = train.take(places)
            inputs = digits.inputs()
            if augment:
                inputs = augment(inputs, generator(plan.seed, "augment", epoch, block))
            for start in range(0, len(places), plan.batch_size):
                part = slice(start, start + plan.batch_size)
                images, batch = inputs[part], digits.take(part)

                for group in optimizer.param_groups:
                    group["lr"] = learning_rate_at(step, steps, plan.learning_rate)
                taught = Outputs(teacher.logits(batch)) if teacher else None
                total = 0.0
                for learner in learners:
                    if has_dropout:  # dropout draws from the global generator; each learner gets the same masks
                        torch.manual_seed(generator(plan.seed, "dropout", step).initial_seed())
                    said = Outputs(learner.model(images))
                    terms = learner.objective(said, taught, batch.labels, settings)
                    since.add(learner.name, terms, said.logits, batch.labels)
                    total = total + sum(terms.values())
                optimizer.zero_grad()
                total.backward()
                optimizer.step()
                step += 1
                since.images += len(images)
                since.steps += 1

                settings.update(_changes_after(step, plan.schedule))
                epoch_ends = step % steps_per_epoch == 0
                if epoch_ends or due(step):
                    losses, train_accuracy = since.means()
                    # The last step of all can spoil the weights without a loss that shows it.
                    if not all(map(math.isfinite, losses.values())) or epoch_ends and not _finite(parameters):
                        raise Diverged(
                            f"Training went out of bounds after {step:,} steps (a loss is not a number); try a lower learning rate."
                        )
                    measured = {
                        learner.name: accuracy(learner.model, validation if epoch_ends else glance) for learner in learners
                    }
                    now = time.perf_counter()
                    seconds += now - started
                    record = Record(
                        step, steps, step / steps_per_epoch, seconds, since.images / (now - since.started),
                        losses, train_accuracy, measured, epoch_ends,
                    )
                    settings.update((yield record) or {})
                    since, started = _Sums(), time.perf_counter()


def _finite(values: list[Tensor]) -> bool:
    return all(value.isfinite().all() for value in values)


def _changes_after(step: int, schedule: tuple[tuple[int, str, float], ...]) -> dict[str, float]:
    """The settings that a schedule changes right after ``step`` steps."""
    return {name: value for when, name, value in schedule if when == step}


class _Sums:
    """Losses and right answers since the record before, kept on the device: no step waits for them."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.images = 0
        self.steps = 0
        self._losses: dict[str, Tensor] = {}
        self._right: dict[str, Tensor] = {}

    def add(self, learner: str, terms: Mapping[str, Tensor], logits: Tensor, labels: Tensor) -> None:
        with torch.no_grad():
            for name, term in terms.items():
                key = f"{learner} {name}"
                self._losses[key] = self._losses.get(key, 0) + term.detach()
            self._right[learner] = self._right.get(learner, 0) + (logits.argmax(1) == labels).sum()

    def means(self) -> tuple[dict[str, float], dict[str, float]]:
        return (
            {name: total.item() / self.steps for name, total in self._losses.items()},
            {name: total.item() / self.images for name, total in self._right.items()},
        )
