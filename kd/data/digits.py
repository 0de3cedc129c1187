"""MNIST as tensors: images, labels and the three parts of the data."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from kd.data.task import MNIST, Task

UNLABELLED = -1  # in place of a label


def normalize(pixels: Tensor, task: Task = MNIST) -> Tensor:
    """Return grey images (N, H, W) uint8 as (N, 1, H, W) float32, with the task's mean at 0 and deviation 1."""
    (mean,), (std,) = task.mean, task.std
    return pixels.unsqueeze(1).float().mul_(1 / (255 * std)).sub_(mean / std)


@dataclass(frozen=True)
class Digits:
    """Images and labels as tensors on one device.

    ``images``: (N, 28, 28) uint8. ``labels``: (N,) int64, UNLABELLED where there is none. ``ids``: (N,) int64, each
    image's place in its MNIST file, which is how teacher logits are found again
    whatever the order. ``file``: "train" or "test", or "" where the images are in no
    file any more. ``shifts``: None, or (N,) int64, which of SHIFTS each image is moved by.
    """

    images: Tensor
    labels: Tensor
    ids: Tensor
    file: str
    shifts: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Tensor | slice) -> Digits:
        """The digits at these places, a mask's or a slice's."""
        shifts = None if self.shifts is None else self.shifts[index]
        if isinstance(index, slice):
            return Digits(self.images[index], self.labels[index], self.ids[index], self.file, shifts)
        if index.dtype == torch.bool:
            index = index.nonzero().squeeze(1)
        # Whole rows: twelve times as fast as images[index], which goes pixel by pixel.
        images = self.images.flatten(1).index_select(0, index).unflatten(1, self.images.shape[1:])
        return Digits(images, self.labels[index], self.ids[index], self.file, shifts)

    def inputs(self) -> Tensor:
        """What models take: (N, 1, 28, 28) float32, normalized."""
        return normalize(self.images)

    def to(self, where: torch.device) -> Digits:
        shifts = None if self.shifts is None else self.shifts.to(where)
        return Digits(self.images.to(where), self.labels.to(where), self.ids.to(where), self.file, shifts)


@dataclass(frozen=True)
class Mnist:
    """The three parts. ``source`` is "full" or "sample".

    In the sample the last two are the same 1,000 images, which no training sees.
    """

    train: Digits
    validation: Digits
    test: Digits
    source: str
    task: Task = MNIST

    @functools.cached_property
    def glance(self) -> Digits:
        """The fixed 1,000 validation images, 100 a class, that live accuracy is measured on."""
        return self.validation if self.source == "sample" else self.validation.take(slice(0, None, 5))

    @functools.cached_property
    def digest(self) -> str:
        """Names the data that results came from."""
        parts = [self.train.images, self.train.labels, self.test.images, self.test.labels]
        return hashlib.sha256(
            b"".join(hashlib.sha256(p.cpu().numpy().tobytes()).digest() for p in parts)
        ).hexdigest()

    def to(self, where: torch.device) -> Mnist:
        if self.train.images.device == where:
            return self
        return Mnist(
            self.train.to(where), self.validation.to(where), self.test.to(where), self.source, self.task
        )
