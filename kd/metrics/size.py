"""Measure the size of a network: parameters, bytes and multiply-accumulate operations (MACs)."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from kd.data.task import MNIST, Task
from kd.models import registry


@dataclass(frozen=True)
class Size:
    """The size of a network.

    Attributes:
        parameters: the number of trained parameters.
        bytes: bytes of the state dict, in float32.
        macs: multiply-accumulate operations to classify one image.
        memory: bytes to classify one image: the state dict plus the largest input and output of a layer.
    """

    parameters: int
    bytes: int
    macs: int
    memory: int


@functools.lru_cache(maxsize=256)
def network_size(architecture: str, task: Task = MNIST) -> Size:
    """Return the size of an architecture, counted on a network without weights.

    Raises:
        UserError: there is no such architecture.
    """
    model = registry.skeleton(architecture, task).eval()
    passing = []

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        passing.append(4 * (sum(value.numel() for value in inputs) + output.numel()))

    for layer in model.modules():
        if not list(layer.children()):
            layer.register_forward_hook(note)
    with FlopCounterMode(display=False) as counter, torch.device("meta"):
        model(torch.zeros(1, *task.image_shape))
    stored = sum(v.numel() * v.element_size() for v in model.state_dict().values())
    return Size(
        parameters=sum(p.numel() for p in model.parameters()),
        bytes=stored,
        macs=counter.get_total_flops() // 2,
        memory=stored + max(passing),
    )
