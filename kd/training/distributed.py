"""Train in the processes that torchrun started, with the same result as in a single process.

All processes start from the same weights. They split each batch between them, and everything that
depends on the whole batch is summed over the processes: gradients, the statistics of batch
normalization and the values in the charts. Random numbers depend on an image's position in the whole
batch.

PyTorch's DistributedDataParallel is not used: it averages the gradients that ``backward()``
stores in ``.grad``, while kd.training.loop passes a list of gradients to functional optimizers. It
also overlaps communication with the backward pass, which pays off only for networks of many megabytes.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from kd.data.digits import Digits
from kd.errors import UserError


class Ranks:
    """The processes that share a training. If there is only one, no method here changes a value.

    Attributes:
        rank: the index of this process, from 0.
        size: the number of processes.
        whole: the number of images in the current batch, over all processes.
    """

    def __init__(self) -> None:
        self.rank, self.size = 0, 1
        if dist.is_available() and dist.is_initialized():
            self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.whole = 0

    def total(self, tensor: Tensor) -> Tensor:
        """Return the sum of ``tensor`` (same shape everywhere) over all processes, bitwise equal in each."""
        if self.size > 1:
            tensor = tensor.clone()
            dist.all_reduce(tensor)
        return tensor

    def spread(self, model: nn.Module) -> None:
        """Make dropout and batch normalization in ``model`` work on the whole batch of all processes."""
        if self.size == 1:
            return
        for layer in model.modules():
            replacement = _WHOLE_BATCH.get(type(layer))
            if replacement is not None:
                layer.__class__ = replacement  # the same weights under the same names
                layer.ranks = self  # type: ignore[assignment]  # a plain attribute, not a submodule

    def share(self, digits: Digits, sizes: list[int]) -> tuple[Digits, list[int]]:
        """Return this process's share of consecutive batches.

        Args:
            digits: the images of all batches, one batch after the other.
            sizes: the number of images in each batch.

        Returns:
            The images of this process, and how many of them belong to each batch.
        """
        if self.size == 1:
            return digits, sizes
        ends = itertools.accumulate(sizes)
        own = [torch.arange(end - size + self.rank, end, self.size) for end, size in zip(ends, sizes)]
        return digits.take(torch.cat(own).to(digits.labels.device)), [len(part) for part in own]

    def begin(self, images: Tensor) -> int:
        """Store and return the number of images in the whole batch, of which this process has ``images``."""
        self.whole = len(images)
        if self.size > 1:
            self.whole = int(self.total(torch.tensor(len(images), device=images.device)))
        return self.whole

    def weighted(self, terms: dict[str, Tensor], images: int) -> dict[str, Tensor]:
        """Scale means over this process's ``images`` so that they sum to the means over the whole batch."""
        if self.size == 1:
            return terms
        weight = images / self.whole
        if not images:  # the mean over no images is NaN; count it as 0
            return {name: term.nan_to_num() * weight for name, term in terms.items()}
        return {name: term * weight for name, term in terms.items()}

    def summed(self, gradients: list[Tensor], images: int) -> list[Tensor]:
        """Combine gradients of means over each process's ``images`` into those of means over the batch.

        The gradients are sent as one tensor.
        """
        if self.size == 1:
            return gradients
        flat = torch.cat([gradient.flatten() for gradient in gradients]) * (images / self.whole)
        parts = self.total(flat).split([gradient.numel() for gradient in gradients])
        return [
            torch.empty_like(gradient).copy_(part.view(gradient.shape))
            for part, gradient in zip(parts, gradients)
        ]


class _Dropout(nn.Dropout):
    """Dropout that draws the mask of the whole batch, as a single process would, and applies its share."""

    ranks: Ranks

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training:
            return inputs
        ones = torch.empty_strided(
            (self.ranks.whole, *inputs.shape[1:]), inputs.stride(), dtype=inputs.dtype, device=inputs.device
        ).fill_(1)
        return inputs * F.dropout(ones, self.p)[self.ranks.rank :: self.ranks.size]


class _BatchNorm2d(nn.BatchNorm2d):
    """Batch normalization with statistics of the whole batch. Unlike nn.SyncBatchNorm, runs on the CPU."""

    ranks: Ranks
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training:
            return super().forward(inputs)
        count = self.ranks.whole * inputs.shape[2] * inputs.shape[3]
        outputs, mean, variance = _Normalize.apply(
            inputs, self.weight, self.bias, self.ranks, count, self.eps
        )
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        return outputs


class _Normalize(torch.autograd.Function):
    """Batch normalization of (N, C, H, W) over ``count`` values per channel in all processes.

    Source: Ioffe & Szegedy 2015 (arXiv 1502.03167), section 3.
    """

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor, ranks: Ranks, count: int, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        mean = ranks.total(inputs.sum((0, 2, 3))) / count
        variance = ranks.total((inputs - _per_channel(mean)).square_().sum((0, 2, 3))) / count
        ctx.ranks, ctx.count = ranks, count
        ctx.save_for_backward(inputs, weight, mean, (variance + eps).rsqrt())
        ctx.mark_non_differentiable(mean, variance)
        return F.batch_norm(inputs, mean, variance, weight, bias, eps=eps), mean, variance

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: None) -> tuple[Tensor | None, ...]:
        inputs, weight, mean, scale = ctx.saved_tensors
        normal = (inputs - _per_channel(mean)) * _per_channel(scale)
        bias_gradient, weight_gradient = gradient.sum((0, 2, 3)), (gradient * normal).sum((0, 2, 3))
        own = torch.stack([bias_gradient, weight_gradient])
        total = ctx.ranks.total(own) / ctx.count
        centred = gradient - _per_channel(total[0]) - normal * _per_channel(total[1])
        inputs_gradient = _per_channel(weight * scale) * centred
        return inputs_gradient, own[1], own[0], None, None, None


_WHOLE_BATCH: dict[type[nn.Module], type[nn.Module]] = {nn.Dropout: _Dropout, nn.BatchNorm2d: _BatchNorm2d}


def _per_channel(values: Tensor) -> Tensor:
    """Return (C,) as (C, 1, 1), to combine with (N, C, H, W)."""
    return values[:, None, None]


# -- torchrun ----------------------------------------------------------------------------


def rank() -> int | None:
    """Return this process's rank if torchrun started several processes, else None."""
    if "MASTER_ADDR" in os.environ and int(os.environ.get("WORLD_SIZE", 1)) > 1:
        return int(os.environ["RANK"])
    return None


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Join the processes that torchrun started, if any; each gets its own GPU when training on GPUs."""
    if rank() is None or dist.is_initialized():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


@contextlib.contextmanager
def one_first() -> Iterator[None]:
    """Let one process of each machine run the body before the others."""
    waits = dist.is_initialized() and os.environ["LOCAL_RANK"] != "0"
    if waits:
        dist.barrier()
    yield
    if dist.is_initialized() and not waits:
        dist.barrier()


def agree(digest: str) -> None:
    """Check that all processes have data with the same digest.

    Raises:
        UserError: the digests differ.
    """
    if dist.is_initialized():
        digests = [""] * dist.get_world_size()
        dist.all_gather_object(digests, digest)
        if len(set(digests)) > 1:
            raise UserError(
                "The processes have different images; set KD_DATA_DIR to the same data for all of them."
            )
