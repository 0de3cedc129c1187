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

#: Approximate number of images gathered and normalized at once, small enough for the processor's cache.
BLOCK = 2048

Batch = tuple[Tensor, Tensor, Outputs | None]  # images (N, C, H, W), labels (N,), the teacher's outputs
Block = tuple[int, int, Tensor, int]  # epoch, index in the epoch, rows of the images, batches to skip


class Teacher(Protocol):
    """The interface that a training needs from a teacher. Outputs are in the order of the given digits."""

    def logits(self, digits: Digits) -> Tensor:
        """Return raw logits (N, C)."""

    def outputs(self, digits: Digits, view: View) -> Outputs:
        """Return raw logits, and a feature (N, D) for each layer of ``view``."""


class Batches:
    """All batches of a training, the same for every learner.

    If only some images have labels, random labelled images are appended to each batch. Without them,
    most batches would have no label.

    Args:
        train: the training images.
        plan: sets batch size, seed, augmentation and epochs.
        teacher: computes the outputs for each batch when the batch is gathered; None without a teacher.
        view: the teacher's hidden layers that an objective compares; None if there are none.
        ranks: the processes that share each batch.

    Attributes:
        per_epoch: batches (and thus optimizer steps) per epoch.
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
        learners use the current one. If the teacher has to process the images, the next block is
        gathered after the current one instead, so that the teacher can use all threads. All
        blocks, including the first, are gathered with the same number of threads. The number can
        change the order in which a matrix product sums, and a resumed training starts at another
        block.
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
        """Return the batches of a block except the first ``done``."""
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
        for images, labels, *teacher in zip(*(part.split(sizes) for part in parts)):
            batches.append((images, labels, Outputs(teacher[0], tuple(teacher[1:])) if teacher else None))
        return batches[done:]

    def _labelled_rows(self, random: torch.Generator) -> Tensor:
        order = torch.randperm(len(self._labelled), generator=random)
        return self._labelled[order[: self.extra]]
