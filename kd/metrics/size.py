"""The size of a network: parameters, bytes and multiplications."""

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
    """``parameters``: weights that were learned. ``bytes``: all that must be stored, as float32.
    ``macs``: multiplications with addition to classify one image. ``memory``: bytes that
    classifying one image takes: the stored ones, and the most that one layer reads and writes."""

    parameters: int
    bytes: int
    macs: int
    memory: int


@functools.lru_cache(maxsize=256)
def network_size(architecture: str, task: Task = MNIST) -> Size:
    """The size of an architecture, counted on a network without weights."""
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
