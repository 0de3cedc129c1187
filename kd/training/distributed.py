"""One training spread over the processes that torchrun started, equal to the same training in one.

All begin with the same weights and go through the same batches, of which each computes its share. What depends on
the whole batch is put together: gradients, the statistics of batch normalization, what the charts show. What is random
depends on the image's place in the whole batch. This is what PyTorch's DistributedDataParallel does, without its class,
which averages what ``backward()`` leaves in ``.grad``: kd.training.loop asks for gradients as a list, for an optimizer that is a
function. What the class has beside, sending while backward still runs, pays for networks of many megabytes.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from kd.data.digits import Digits
from kd.errors import UserError


class Ranks:
    """The processes of a training, and this one's part in it. Where it is alone nothing here costs or changes anything."""

    def __init__(self) -> None:
        several = dist.is_available() and dist.is_initialized()
        self.rank, self.size = (dist.get_rank(), dist.get_world_size()) if several else (0, 1)
        self.whole = 0  # images in the batch at hand, of all processes

    def total(self, tensor: Tensor) -> Tensor:
        """The sum of the processes' tensors of one shape; the same to the bit for all of them."""
        if self.size > 1:
            tensor = tensor.clone()
            dist.all_reduce(tensor)
        return tensor

    def spread(self, model: nn.Module) -> None:
        """Has those layers of ``model`` that look at the whole batch, or draw for it, do so over all processes."""
        for layer in model.modules():
            if self.size > 1 and type(layer) in _SPREAD:
                layer.__class__, layer.ranks = (
                    _SPREAD[type(layer)],
                    self,
                )  # the same weights under the same names

    def share(self, digits: Digits, sizes: list[int]) -> tuple[Digits, list[int]]:
        """This process's part of batches of these sizes that lie one after another, and the sizes of the parts."""
        if self.size == 1:
            return digits, sizes
        ends = itertools.accumulate(sizes)
        mine = [torch.arange(end - size + self.rank, end, self.size) for end, size in zip(ends, sizes)]
        return digits.take(torch.cat(mine).to(digits.labels.device)), [len(part) for part in mine]

    def begin(self, images: Tensor) -> int:
        """Takes note of this process's part of a batch; returns how many images all of it has."""
        self.whole = (
            len(images)
            if self.size == 1
            else int(self.total(torch.tensor(len(images), device=images.device)))
        )
        return self.whole

    def weighted(self, terms: dict[str, Tensor], images: int) -> dict[str, Tensor]:
        """Means over this process's ``images`` as its part of the means over the batch."""
        if self.size == 1:
            return terms
        # The mean of no image is no number, but no part of the batch's either.
        return {
            name: (term if images else term.nan_to_num()) * (images / self.whole)
            for name, term in terms.items()
        }

    def summed(self, gradients: list[Tensor], images: int) -> list[Tensor]:
        """Gradients of means over this process's ``images``, as those of the means over the batch, sent as one tensor."""
        if self.size == 1:
            return gradients
        parts = self.total(
            torch.cat([gradient.flatten() for gradient in gradients]) * (images / self.whole)
        ).split([gradient.numel() for gradient in gradients])
        return [
            torch.empty_like(gradient).copy_(part.view(gradient.shape))
            for part, gradient in zip(parts, gradients)
        ]


class _Dropout(nn.Dropout):
    """Draws for the whole batch, as one process would, and keeps what is for its own images."""

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training:
            return inputs
        ones = torch.empty_strided(
            (self.ranks.whole, *inputs.shape[1:]), inputs.stride(), dtype=inputs.dtype, device=inputs.device
        ).fill_(1)
        return inputs * F.dropout(ones, self.p)[self.ranks.rank :: self.ranks.size]


class _BatchNorm2d(nn.BatchNorm2d):
    """Normalizes by the whole batch's statistics; on the CPU too, where nn.SyncBatchNorm does not."""

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
    """Batch normalization of (N, C, H, W) over ``count`` numbers a channel in all processes. Source: Ioffe & Szegedy 2015, section 3."""

    @staticmethod
    def forward(
        ctx, inputs: Tensor, weight: Tensor, bias: Tensor, ranks: Ranks, count: int, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        mean = ranks.total(inputs.sum((0, 2, 3))) / count
        variance = ranks.total((inputs - _wide(mean)).square_().sum((0, 2, 3))) / count
        ctx.ranks, ctx.count = ranks, count
        ctx.save_for_backward(inputs, weight, mean, (variance + eps).rsqrt())
        ctx.mark_non_differentiable(mean, variance)
        return F.batch_norm(inputs, mean, variance, weight, bias, eps=eps), mean, variance

    @staticmethod
    def backward(ctx, gradient: Tensor, *_: None) -> tuple[Tensor | None, ...]:
        inputs, weight, mean, scale = ctx.saved_tensors
        normal = (inputs - _wide(mean)) * _wide(scale)
        own = torch.stack(
            [gradient.sum((0, 2, 3)), (gradient * normal).sum((0, 2, 3))]
        )  # by bias and by weight
        every = ctx.ranks.total(own) / ctx.count
        by_inputs = _wide(weight * scale) * (gradient - _wide(every[0]) - normal * _wide(every[1]))
        return by_inputs, own[1], own[0], None, None, None


_SPREAD = {nn.Dropout: _Dropout, nn.BatchNorm2d: _BatchNorm2d}


def _wide(channels: Tensor) -> Tensor:
    return channels[:, None, None]


# -- torchrun ----------------------------------------------------------------------------


def rank() -> int | None:
    """This process's number, from 0, among several that torchrun started; None where it is alone."""
    return (
        int(os.environ["RANK"])
        if "MASTER_ADDR" in os.environ and int(os.environ.get("WORLD_SIZE", 1)) > 1
        else None
    )


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Meanwhile this process is one of those that torchrun started, with a GPU of its own where training runs on GPUs."""
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
    """On each machine one process does this before the others."""
    others = dist.is_initialized() and os.environ["LOCAL_RANK"] != "0"
    if others:
        dist.barrier()
    yield
    if dist.is_initialized() and not others:
        dist.barrier()


def agree(digest: str) -> None:
    """Sees that all processes learn from the same data.

    Raises:
        UserError: they do not.
    """
    if dist.is_initialized():
        digests = [""] * dist.get_world_size()
        dist.all_gather_object(digests, digest)
        if len(set(digests)) > 1:
            raise UserError(
                "The processes see different images; let KD_DATA_DIR name the same data for all of them."
            )
