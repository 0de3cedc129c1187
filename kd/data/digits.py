"""Hold images and labels as tensors, and MNIST as training, validation and test data."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kd.data.task import MNIST, Task

UNLABELLED = -1  # the label of an image without one


def normalize(pixels: Tensor, task: Task = MNIST) -> Tensor:
    """Return the images as networks take them, with mean 0 and standard deviation 1 over the training set.

    Args:
        pixels: (N, H, W) uint8, one channel.
        task: supplies the mean and the standard deviation.

    Returns:
        (N, 1, H, W) float32.
    """
    (mean,), (std,) = task.mean, task.std
    return pixels.unsqueeze(1).float().mul_(1 / (255 * std)).sub_(mean / std)


@dataclass(frozen=True)
class Digits:
    """Images and labels as tensors on one device.

    Attributes:
        images: (N, H, W) uint8.
        labels: (N,) int64; UNLABELLED for an image without a label.
        ids: (N,) int64, each image's index in its MNIST file. Cached teacher logits are found by it,
            whatever the order.
        file: "train" or "test"; "" if the images are no longer those of a file.
        views: None, or (N,) int64: which view of its image each is, by the augmentation called
            ``augmentation``.
        data: a digest of the images of the whole file; with file and id it identifies an image in any data
            set. "" before the digits are part of a Mnist, which fills it in.
    """

    images: Tensor
    labels: Tensor
    ids: Tensor
    file: str
    views: Tensor | None = None
    data: str = ""
    augmentation: str = ""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Tensor | slice) -> Digits:
        """Return the digits at these indices, as a tensor of indices, a boolean mask or a slice."""
        views = None if self.views is None else self.views[index]
        if isinstance(index, slice):
            images = self.images[index]
        else:
            if index.dtype == torch.bool:
                index = index.nonzero().squeeze(1)
            # index_select copies whole rows: 12 times as fast as images[index], which goes pixel by pixel.
            images = self.images.flatten(1).index_select(0, index).unflatten(1, self.images.shape[1:])
        return dataclasses.replace(
            self, images=images, labels=self.labels[index], ids=self.ids[index], views=views
        )

    def inputs(self) -> Tensor:
        """Return the normalized images that networks take: (N, 1, H, W) float32."""
        return normalize(self.images)

    def to(self, device: torch.device) -> Digits:
        """Return the digits on ``device``."""
        return dataclasses.replace(
            self,
            images=self.images.to(device),
            labels=self.labels.to(device),
            ids=self.ids.to(device),
            views=None if self.views is None else self.views.to(device),
        )


@dataclass(frozen=True)
class Mnist:
    """MNIST as training, validation and test data.

    ``source`` is "full" or "sample". In the sample, validation and test are the same 1,000 images,
    which are never trained on.
    """

    train: Digits
    validation: Digits
    test: Digits
    source: str
    task: Task = MNIST

    def __post_init__(self) -> None:
        parts = {name: getattr(self, name) for name in ("train", "validation", "test")}
        unknown = {name: part for name, part in parts.items() if part is not None and not part.data}
        for file in {part.file for part in unknown.values()}:
            same = {name: part for name, part in unknown.items() if part.file == file}
            data = _digest([tensor for part in same.values() for tensor in (part.ids, part.images)])
            for name, part in same.items():
                object.__setattr__(self, name, dataclasses.replace(part, data=data))

    @functools.cached_property
    def glance(self) -> Digits:
        """Return the fixed 1,000 validation images, 100 per class, that live accuracy is measured on."""
        return self.validation if self.source == "sample" else self.validation.take(slice(0, None, 5))

    @functools.cached_property
    def digest(self) -> str:
        """Return a SHA-256 that identifies the training and test data."""
        return _digest([self.train.images, self.train.labels, self.test.images, self.test.labels])

    def to(self, device: torch.device) -> Mnist:
        """Return the data on ``device``; the same object if it is there already."""
        if self.train.images.device == device:
            return self
        return Mnist(
            self.train.to(device), self.validation.to(device), self.test.to(device), self.source, self.task
        )


def _digest(tensors: Sequence[Tensor]) -> str:
    """Return the SHA-256 of the tensors' own SHA-256."""
    return hashlib.sha256(
        b"".join(hashlib.sha256(tensor.cpu().numpy().tobytes()).digest() for tensor in tensors)
    ).hexdigest()
