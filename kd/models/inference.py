"""Run networks: logits, hidden layers and many images in chunks."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kd.models.layers import Block

CHUNK = 64  # images that a network answers about at once


class Outputs(NamedTuple):
    """What a network says about a batch."""

    logits: Tensor  # (N, 10)
    features: tuple[Tensor, ...] = ()  # of hidden layers, from shallow to deep, where they were asked for


#: A network's features are the outputs of its layers of these kinds: (N, C, H, W) after a convolution, (N, D) after a dense
#: layer, and of a Transformer's block the class token, (N, D), which is what its head will see.
FEATURES = (nn.ReLU, Block)


def outputs(model: nn.Module, inputs: Tensor) -> Outputs:
    """The logits of ``inputs`` (N, 1, 28, 28) with all features, from shallow to deep; none of a network that is no Sequential."""
    if not isinstance(model, nn.Sequential):
        return Outputs(model(inputs), ())
    features = []
    for layer in model:
        inputs = layer(inputs)
        if isinstance(layer, FEATURES):
            features.append(inputs[:, 0] if isinstance(layer, Block) else inputs)
    return Outputs(inputs, tuple(features))


class Mean(nn.Module):
    """Several networks as one, which gives the mean of their logits."""

    def __init__(self, networks: list[nn.Module]):
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.stack([network(inputs) for network in self.networks]).mean(0)


def logits_in_chunks(model: nn.Module, inputs: Tensor, chunk: int = CHUNK) -> Tensor:
    """Logits (N, 10) of ``inputs`` (N, 1, 28, 28), without gradients, in eval mode."""
    return in_chunks(model, model, inputs, chunk)


def in_chunks(
    model: nn.Module, ask: Callable[[Tensor], Tensor], inputs: Tensor, chunk: int = CHUNK
) -> Tensor:
    """What ``ask``, which uses ``model``, gives for ``inputs`` (N, 1, 28, 28), without gradients, in eval mode.

    Small chunks in channels_last stay in the processor's cache: a convolutional
    teacher is over twice as fast as with chunks of 1,000 in the default layout.
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
