"""The one training loop, a generator of records.

Teachers, students and their controls all train here. The caller drives the generator:
not asking for the next record pauses the training, closing the generator stops it, and
updating ``Training.settings`` between two records changes the settings.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from kd.data.augmentation import AUGMENTATIONS
from kd.data.digits import UNLABELLED, Digits, Mnist
from kd.errors import UserError
from kd.metrics import classification
from kd.models.inference import Outputs, logits_in_chunks
from kd.objectives.feature_matching import View
from kd.randomness import generator
from kd.training import memory
from kd.training.distributed import Ranks
from kd.training.forward_backward import has_dropout
from kd.training.learner import Learner, Learning, One, Step
from kd.training.threads import Cores

WARM_UP = 0.2  # share of the steps in which the learning rate rises
Batch = tuple[Tensor, Tensor, Outputs | None]  # images, labels and what the teacher says of them
BLOCK = 2048  # images, about, that are gathered and normalized at once: what fits the cache


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
    train_accuracy: Mapping[
        str, float
    ]  # learner -> share right of the labelled images since the record before
    validation_accuracy: Mapping[str, float]  # learner -> share right
    whole_validation: bool  # on all validation images, or on the fixed 1,000
    fidelity: Mapping[str, float] = field(
        default_factory=dict
    )  # "agreement student", "kl student", "ece student", on the same images

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
        self._labelled = (mnist.train.labels != UNLABELLED).nonzero().squeeze(1)
        # Where only some images have labels, each batch has a second one of labelled images after it: by chance alone, most would have none.
        self._extra = (
            min(plan.batch_size, len(self._labelled)) if len(self._labelled) < len(mnist.train) else 0
        )
        memory.check(
            [learner.model for learner in learners], plan.batch_size + self._extra, mnist.train.images.device
        )
        self.learners, self.mnist, self.plan, self.teacher = learners, mnist, plan, teacher
        self.settings = {**settings, **_changes_after(0, plan.schedule)}
        self.step, self.seconds = 0, 0.0
        self.steps_per_epoch = math.ceil(len(mnist.train) / plan.batch_size)
        self.steps = plan.epochs * self.steps_per_epoch
        self._ranks = Ranks()
        for learner in learners:
            self._ranks.spread(learner.model)
        self._learning = self._prepared()
        self._view = next((learner.connection.teacher for learner in learners if learner.connection), None)
        # A peer has to answer first; dropout draws from a generator that is one for all; a GPU is shared by itself.
        self._peers = any(learner.peer for learner in learners)
        self._apart = (
            not (
                self._peers or any(has_dropout(learner.model) for learner in learners) or self._ranks.size > 1
            )
            and mnist.train.images.device.type == "cpu"
        )
        self._projections = {
            learner.name: learner.connection.projection
            for learner in learners
            if learner.connection and learner.connection.projection
        }
        self._good: list[dict[str, Tensor]] = [{} for _ in learners]

    def _prepared(self) -> Sequence[Learning]:
        """The learners as they learn. Each has an optimizer of its own, and comes to what it comes to by itself."""
        return [One(learner, self.plan.optimizer, self._ranks) for learner in self.learners]

    def records(self, due: Callable[[int], bool] = every_epoch) -> Generator[Record, None, None]:
        """Trains, from where it stands to the end.

        Yields a Record at the end of each epoch and after every step for which
        ``due(step)`` is true. Updating ``settings`` between two records, as in
        ``training.settings.update(temperature=8.0)``, takes effect from the next step on.
        Between the records models are in training mode.

        Raises:
            Diverged: a loss or a weight was not finite; seen before the next record.
        """
        for learner in self.learners:
            learner.model.train()
        self._remember()
        with Cores([learning.step for learning in self._learning], self._apart) as cores:
            images, started = 0, time.perf_counter()
            for batch in self._batches(cores):
                images += self._train(batch, cores)
                epoch_ends = self.step % self.steps_per_epoch == 0
                if epoch_ends or due(self.step):
                    cores.wait()
                    losses, train_accuracy = self._means()
                    self._check(losses)
                    measured, fidelity = self._judge(
                        self.mnist.validation if epoch_ends else self.mnist.glance
                    )
                    now = time.perf_counter()
                    self.seconds += now - started
                    record = Record(
                        self.step,
                        self.steps,
                        self.step / self.steps_per_epoch,
                        self.seconds,
                        images / (now - started),
                        losses,
                        train_accuracy,
                        measured,
                        epoch_ends,
                        fidelity,
                    )
                    self._remember()
                    yield record
                    images, started = 0, time.perf_counter()

    def _means(self) -> tuple[dict[str, float], dict[str, float]]:
        """Of the losses, and the shares of right answers, since the record before."""
        losses, right = {}, {}
        for learning in self._learning:
            its_losses, its_right = learning.sums.means(self._ranks.total)
            losses |= its_losses
            right |= its_right
            learning.sums.begin()
        return losses, right

    def _remember(self) -> None:
        """Keeps the weights as they are, to go back to where training goes out of bounds."""
        for learner, kept in zip(self.learners, self._good):
            for key, value in learner.model.state_dict().items():
                kept[key] = kept[key].copy_(value) if key in kept else value.clone()

    def _check(self, losses: Mapping[str, float]) -> None:
        """Raises Diverged, with the weights of the last record, where something is not finite."""
        # A step can spoil the weights without a loss that shows it yet; what batch normalization counts too.
        learned = [
            *(weight for learning in self._learning for weight in learning.parameters),
            *(buffer for learner in self.learners for buffer in learner.model.buffers()),
        ]
        if all(map(math.isfinite, losses.values())) and _finite(learned):
            return
        for learner, weights in zip(self.learners, self._good):
            learner.model.load_state_dict(weights)
        raise Diverged(
            f"Training went out of bounds after {self.step:,} steps (a loss is not a number); try a lower learning rate."
        )

    def _judge(self, digits: Digits) -> tuple[dict[str, float], dict[str, float]]:
        """Accuracy by learner; agreement with the teacher, where there is one, and calibration."""
        inputs, found, fidelity = digits.inputs(), {}, {}
        taught = self.teacher.logits(digits) if self.teacher else None
        for learner in self.learners:
            logits = logits_in_chunks(learner.model, inputs, 512)
            found[learner.name] = (logits.argmax(1) == digits.labels).float().mean().item()
            measured = (classification.fidelity(logits, taught) if taught is not None else {}) | {
                "ece": classification.ece(logits, digits.labels)
            }
            # Just before a training is found to have gone out of bounds some may be no numbers.
            fidelity |= {
                f"{what} {learner.name}": value for what, value in measured.items() if math.isfinite(value)
            }
        return found, fidelity

    def _batches(self, cores: Cores[Step]) -> Iterator[Batch]:
        """All batches that are still to come.

        They are gathered by the block, several batches at once: what depends on random
        numbers depends on (seed, epoch, block) alone, so that any step can be the first.
        While one block is learned from, the next is gathered, unless the teacher has to
        look at the images: for that it has all threads. Either way all blocks, the first
        one too, are gathered by as many threads: matrix products of several threads may
        sum in another order, and a resumed training begins with another block.
        """
        looks = self.teacher is not None and (self.plan.augmentation != "none" or self._view is not None)

        def begin(block: tuple[int, int, Tensor, int]) -> Callable[[], list[Batch]]:
            gather = functools.partial(self._gather, *block)
            return gather if looks else cores.soon(gather)

        coming: Callable[[], list[Batch]] | None = None
        for block in self._blocks():
            batches = coming() if coming else []
            coming = begin(block)
            yield from batches
        if coming:
            yield from coming()

    def _blocks(self) -> Iterator[tuple[int, int, Tensor, int]]:
        """Epoch, number, places of the images, and batches that were done before a checkpoint, of all blocks that are still to come."""
        plan, batches, done = self.plan, max(1, BLOCK // self.plan.batch_size), self.step
        for epoch in range(done // self.steps_per_epoch, plan.epochs):
            order = torch.randperm(len(self.mnist.train), generator=generator(plan.seed, "order", epoch)).to(
                self.mnist.train.labels.device
            )
            for block, places in enumerate(order.split(plan.batch_size * batches)):
                first = epoch * self.steps_per_epoch + block * batches
                if done < first + batches:
                    yield epoch, block, places, max(0, done - first)

    def _gather(self, epoch: int, block: int, places: Tensor, done: int) -> list[Batch]:
        """The batches of a block but for the first ``done``."""
        plan, groups = self.plan, list(places.split(self.plan.batch_size))
        if self._extra:
            draw = generator(plan.seed, "labelled", epoch, block)
            groups = [
                torch.cat(
                    [
                        group,
                        self._labelled[torch.randperm(len(self._labelled), generator=draw)[: self._extra]],
                    ]
                )
                for group in groups
            ]
        digits = self.mnist.train.take(torch.cat(groups))
        if augment := AUGMENTATIONS[plan.augmentation]:
            digits = augment(digits, generator(plan.seed, "augment", epoch, block))
        digits, sizes = self._ranks.share(digits, [len(group) for group in groups])
        parts = [digits.inputs(), digits.labels]
        if self.teacher:
            said = (
                self.teacher.outputs(digits, self._view)
                if self._view
                else Outputs(self.teacher.logits(digits))
            )
            parts += [said.logits, *said.features]
        batches = list(zip(*(part.split(sizes) for part in parts)))[done:]
        return [
            (images, labels, Outputs(taught[0], tuple(taught[1:])) if taught else None)
            for images, labels, *taught in batches
        ]

    def _train(self, batch: Batch, cores: Cores[Step]) -> int:
        """One optimizer step of each learner, done at the latest when ``cores`` has been waited for. Returns the images in the batch."""
        whole = self._ranks.begin(batch[0])
        step = Step(
            *batch,
            (self.plan.seed, "dropout", self.step),
            self.settings,
            learning_rate_at(self.step, self.steps, self.plan.learning_rate),
        )
        if self._peers:
            self._train_peers(step)
        else:
            cores.give(step)
        self.step += 1
        # Another one, since a step that is not done yet reads these.
        self.settings = self.settings | _changes_after(self.step, self.plan.schedule)
        return whole

    def _train_peers(self, step: Step) -> None:
        answers = [learning.answer(step) for learning in self._learning]
        # A peer is looked at as it is: its learning from this student is its own matter.
        peers = {learner.name: Outputs(said.logits) for learner, said in zip(self.learners, answers)}
        for learner, learning, said in zip(self.learners, self._learning, answers):
            learning.learn(said, peers[learner.peer] if learner.peer else step.taught, step)

    # -- checkpoints -----------------------------------------------------------------

    def state(self) -> dict[str, Tensor]:
        """All that going on from here needs, as tensors by name. To be called between two records."""
        return {
            "step": torch.tensor(self.step),
            "seconds": torch.tensor(self.seconds, dtype=torch.float64),
            **{
                f"setting.{name}": torch.tensor(value, dtype=torch.float64)
                for name, value in self.settings.items()
            },
            **{
                f"weights.{learner.name}.{key}": value
                for learner in self.learners
                for key, value in learner.model.state_dict().items()
            },
            **{
                f"projection.{name}.{key}": value
                for name, projection in self._projections.items()
                for key, value in projection.state_dict().items()
            },
            **{
                f"moments.{learning.name}.{i}": value
                for learning in self._learning
                for i, value in enumerate(learning.moments)
            },
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
            for name, projection in self._projections.items():
                projection.load_state_dict(under(f"projection.{name}."))
            for learning in self._learning:
                for i, value in enumerate(learning.moments):
                    value.copy_(state[f"moments.{learning.name}.{i}"])
            self.settings = {name: value.item() for name, value in under("setting.").items()}
            self.step, self.seconds = int(state["step"]), float(state["seconds"])
        except (KeyError, RuntimeError) as error:
            raise UserError(
                "The checkpoint is of another training, or of another version of the program; start the run anew."
            ) from error


def _finite(values: list[Tensor]) -> bool:
    return bool(
        torch.cat([torch.stack(torch.aminmax(value.detach())).double() for value in values if value.numel()])
        .isfinite()
        .all()
    )


def _changes_after(step: int, schedule: tuple[tuple[int, str, float], ...]) -> dict[str, float]:
    """The settings that a schedule changes right after ``step`` steps."""
    return {name: value for when, name, value in schedule if when == step}
