"""The batches of a training: order, augmentation, labels and the teacher's outputs."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from kd.data.augmentation import AUGMENTATIONS
from kd.data.digits import UNLABELLED, Digits
from kd.models.inference import Outputs
from kd.objectives.feature_matching import View
from kd.randomness import generator
from kd.training.distributed import Ranks
from kd.training.records import Plan
from kd.training.threads import LearnerThreads

#: About how many images are gathered and normalized at once, so that they fit the processor's cache.
BLOCK = 2048

Batch = tuple[Tensor, Tensor, Outputs | None]  # images (N, C, H, W), labels (N,), the teacher's outputs
Block = tuple[int, int, Tensor, int]  # epoch, number in it, rows of the images, batches already done


class Teacher(Protocol):
    """The interface of a teacher in a training. Outputs are in the order of the given digits."""

    def logits(self, digits: Digits) -> Tensor:
        """Return raw logits (N, C)."""

    def outputs(self, digits: Digits, view: View) -> Outputs:
        """Return raw logits, and a feature (N, D) for each layer of ``view``."""


class Batches:
    """All batches of a training, the same for every learner.

    If only some images have labels, each batch is followed by a second one of labelled images:
    by chance alone, most batches would have none.

    Args:
        train: the training images.
        plan: sets batch size, seed, augmentation and epochs.
        teacher: asked about the images of each batch as it comes; None if there is none.
        view: the teacher's hidden layers that an objective compares; None if there are none.
        ranks: the processes that share each batch.

    Attributes:
        per_epoch: batches, and so optimizer steps, in an epoch.
        extra: labelled images that are added to each batch.
    """

    def __init__(self, train: Digits, plan: Plan, teacher: Teacher | None, view: View | None, ranks: Ranks):
        self._train, self._plan, self._teacher, self._view, self._ranks = train, plan, teacher, view, ranks
        self.per_epoch = math.ceil(len(train) / plan.batch_size)
        self._labelled = (train.labels != UNLABELLED).nonzero().squeeze(1)
        self.extra = 0
        if len(self._labelled) < len(train):
            self.extra = min(plan.batch_size, len(self._labelled))

    def start(self, done: int, threads: LearnerThreads[Any]) -> Iterator[Batch]:
        """Yield all batches after the first ``done``.

        They are gathered in blocks of several batches. Random numbers depend only on seed, epoch
        and block, so that training can resume at any step. The next block is gathered while the
        learners use the current one, unless the teacher has to process the images: for that it
        gets all threads. All blocks, including the first, are gathered with the same number of
        threads: with another number, matrix products may sum in another order, and a resumed
        training starts with another block.
        """
        teacher_runs = self._teacher is not None and (
            self._plan.augmentation != "none" or self._view is not None
        )

        def begin(block: Block) -> Callable[[], list[Batch]]:
            gather = functools.partial(self._gather, *block)
            return gather if teacher_runs else threads.submit(gather)

        next_batches: Callable[[], list[Batch]] | None = None
        for block in self._blocks(done):
            batches = next_batches() if next_batches else []
            next_batches = begin(block)
            yield from batches
        if next_batches:
            yield from next_batches()

    def _blocks(self, done: int) -> Iterator[Block]:
        plan, size = self._plan, max(1, BLOCK // self._plan.batch_size)
        for epoch in range(done // self.per_epoch, plan.epochs):
            order = torch.randperm(len(self._train), generator=generator(plan.seed, "order", epoch))
            order = order.to(self._train.labels.device)
            for block, rows in enumerate(order.split(plan.batch_size * size)):
                first = epoch * self.per_epoch + block * size
                if done < first + size:
                    yield epoch, block, rows, max(0, done - first)

    def _gather(self, epoch: int, block: int, rows: Tensor, done: int) -> list[Batch]:
        """Return the batches of a block without the first ``done``."""
        plan = self._plan
        groups = list(rows.split(plan.batch_size))
        if self.extra:
            random = generator(plan.seed, "labelled", epoch, block)
            groups = [torch.cat([group, self._labelled_rows(random)]) for group in groups]
        digits = self._train.take(torch.cat(groups))
        augment = AUGMENTATIONS[plan.augmentation]
        if augment:
            digits = augment(digits, generator(plan.seed, "augment", epoch, block))
        digits, sizes = self._ranks.share(digits, [len(group) for group in groups])
        parts = [digits.inputs(), digits.labels]
        if self._teacher and self._view:
            outputs = self._teacher.outputs(digits, self._view)
            parts += [outputs.logits, *outputs.features]
        elif self._teacher:
            parts.append(self._teacher.logits(digits))
        batches: list[Batch] = []
        for images, labels, *taught in zip(*(part.split(sizes) for part in parts)):
            batches.append((images, labels, Outputs(taught[0], tuple(taught[1:])) if taught else None))
        return batches[done:]

    def _labelled_rows(self, random: torch.Generator) -> Tensor:
        order = torch.randperm(len(self._labelled), generator=random)
        return self._labelled[order[: self.extra]]
