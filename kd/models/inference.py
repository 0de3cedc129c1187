"""Run networks: logits, features of hidden layers, and many images in chunks."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.models.layers import Block

CHUNK = 64  # images per forward pass


class Outputs(NamedTuple):
    """A network's outputs for a batch."""

    logits: Tensor  # (N, classes)
    features: tuple[Tensor, ...] = ()  # of hidden layers, from shallow to deep; empty if not requested


#: The outputs of layers of these classes are a network's features: (N, C, H, W) after a convolution,
#: (N, D) after a dense layer, and the class token, (N, D), of a Transformer's block.
FEATURES = (nn.ReLU, Block)


def outputs(model: nn.Module, inputs: Tensor) -> Outputs:
    """Return logits and all features, from shallow to deep, for ``inputs`` (N, C, H, W).

    Networks that are not a Sequential have no features.
    """
    if not isinstance(model, nn.Sequential):
        return Outputs(model(inputs), ())
    features = []
    for layer in model:
        inputs = layer(inputs)
        if isinstance(layer, FEATURES):
            features.append(inputs[:, 0] if isinstance(layer, Block) else inputs)
    return Outputs(inputs, tuple(features))


class Mean(nn.Module):
    """Several networks as one: the mean of their logits."""

    def __init__(self, networks: list[nn.Module]):
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.stack([network(inputs) for network in self.networks]).mean(0)


def logits_in_chunks(model: nn.Module, inputs: Tensor, chunk: int = CHUNK) -> Tensor:
    """Return the logits (N, classes) of ``inputs`` (N, C, H, W), without gradients, in eval mode."""
    return in_chunks(model, model, inputs, chunk)


def in_chunks(
    model: nn.Module, ask: Callable[[Tensor], Tensor], inputs: Tensor, chunk: int = CHUNK
) -> Tensor:
    """Return ``ask(inputs)``, computed in chunks, without gradients, with ``model`` in eval mode.

    Small chunks in channels_last stay in the processor's cache: a convolutional teacher is more than twice
    as fast as with chunks of 1,000 in the default layout.

    Args:
        model: the network that ``ask`` uses; its training mode is restored afterwards.
        ask: maps images (n, C, H, W) to a tensor with n rows.
        inputs: (N, C, H, W), normalized.
        chunk: images per call of ``ask``.
    """
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            return torch.cat(
                [ask(part.contiguous(memory_format=torch.channels_last)) for part in inputs.split(chunk)]
            )
    finally:
        model.train(was_training)


class _AlignedLinear(nn.Module):
    """A dense layer, computed with both widths padded to a multiple of 16."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, layer: nn.Linear):
        super().__init__()
        self._width, self._added = layer.out_features, -layer.in_features % 16
        rows = -layer.out_features % 16
        weight = F.pad(layer.weight.detach(), (0, self._added, 0, rows))
        self.register_buffer("weight", weight)
        self.register_buffer("bias", None if layer.bias is None else F.pad(layer.bias.detach(), (0, rows)))

    def forward(self, inputs: Tensor) -> Tensor:
        return F.linear(F.pad(inputs, (0, self._added)), self.weight, self.bias)[..., : self._width]


def aligned(model: nn.Module) -> nn.Module:
    """Return a network whose outputs for an image do not depend on the image's place in a chunk.

    On some processors, a matrix product of rows that do not start at a multiple of 16 bytes, as behind 30
    units, rounds differently from row to row. Such a network is returned as a copy with padded dense layers;
    any other is returned as it is.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    if all(layer.in_features % 4 == 0 for layer in layers):
        return model
    model = copy.deepcopy(model)
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.Linear):
                setattr(parent, name, _AlignedLinear(layer))
    return model
