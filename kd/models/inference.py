"""Run networks: logits, features of hidden layers, and many images in chunks."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
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
