"""Define the layers that networks are made of, and the functions that assemble them.

All networks take normalized images, (N, C, H, W) float32, and return logits, (N, classes): (N, 1, 28, 28)
and (N, 10) for MNIST. A module with weights outside its submodules initializes them in a method
``initialize(generator)``. Only nn.Dropout may be random in training: see kd.training.forward_backward.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.data.task import MNIST, Task

# -- multilayer perceptrons ------------------------------------------------------------


class BoundedLinear(nn.Linear):
    """A linear layer that keeps the norm of each unit's incoming weights below ``bound`` in training.

    Source: Hinton et al. 2012 (arXiv 1207.0580), section 2.
    """

    def __init__(self, inputs: int, outputs: int, bound: float):
        super().__init__(inputs, outputs)
        self.bound = bound

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                self.weight.renorm_(2, 0, self.bound)
        return super().forward(inputs)


def mlp(*widths: int, task: Task = MNIST) -> nn.Sequential:
    """Return a multilayer perceptron with ReLU and these hidden widths; without widths, a linear model."""
    layers: list[nn.Module] = [nn.Flatten()]
    sizes = [task.values, *widths]
    for inputs, outputs in zip(sizes, sizes[1:]):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], task.classes))


def regularized_mlp(
    *widths: int, bound: float, dropout: tuple[float, float], task: Task = MNIST
) -> nn.Sequential:
    """Return an MLP with bounded weights and dropout.

    Args:
        bound: largest norm of a hidden unit's incoming weights.
        dropout: the probability for a pixel and for a hidden unit.
    """
    layers: list[nn.Module] = [nn.Flatten(), nn.Dropout(dropout[0])]
    sizes = [task.values, *widths]
    for inputs, outputs in zip(sizes, sizes[1:]):
        layers += [BoundedLinear(inputs, outputs, bound), nn.ReLU(), nn.Dropout(dropout[1])]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], task.classes))


# -- convolutional networks ------------------------------------------------------------


def convolution(
    inputs: int, outputs: int, stride: int = 1, size: int = 3, groups: int = 1
) -> list[nn.Module]:
    """Return a padded convolution, batch normalization and ReLU. Only the stride shrinks the image."""
    return [
        nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]


def cnn(
    channels: tuple[int, ...], strides: tuple[int, ...], dropout: float, task: Task = MNIST
) -> nn.Sequential:
    """Return a network of 3x3 convolutions with batch normalization and ReLU, then one linear layer."""
    layers: list[nn.Module] = []
    height, width, inputs = task.height, task.width, task.channels
    for outputs, stride in zip(channels, strides, strict=True):
        layers += convolution(inputs, outputs, stride)
        height, width, inputs = math.ceil(height / stride), math.ceil(width / stride), outputs
    if dropout:
        layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(inputs * height * width, task.classes))


def separable_cnn(channels: tuple[int, ...], strides: tuple[int, ...], task: Task = MNIST) -> nn.Sequential:
    """Return a network of a 3x3 convolution, separable ones, the mean over positions and one linear layer.

    A separable convolution looks at each channel by itself (depthwise, 3x3) and then at all channels of each
    position (pointwise, 1x1). This takes about a ninth of the multiplications of an ordinary convolution.
    Source: Howard et al. 2017 (MobileNets, arXiv 1704.04861), section 3.1.
    """
    layers = convolution(task.channels, channels[0], strides[0])
    for inputs, outputs, stride in zip(channels[:-1], channels[1:], strides[1:], strict=True):
        layers += convolution(inputs, inputs, stride, groups=inputs) + convolution(inputs, outputs, size=1)
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels[-1], task.classes)
    )


# -- the Transformer -------------------------------------------------------------------


class Patches(nn.Module):
    """Embed images: (N, C, H, W) -> (N, 1 + P, width), a class token and P square patches, plus positions.

    Initial positions are about as large as the patches' embeddings. With the customary standard deviation of
    0.02, a Transformer hardly sees them at first and learns far more slowly.

    Source: Dosovitskiy et al. 2021 (ViT, arXiv 2010.11929), equation 1.
    """

    def __init__(self, side: int, width: int, task: Task = MNIST):
        super().__init__()
        # A convolution with stride = size is one linear map for all patches.
        self.embed = nn.Conv2d(task.channels, width, side, stride=side)
        self.class_token = nn.Parameter(torch.empty(1, 1, width))
        self.positions = nn.Parameter(torch.empty(1, 1 + (task.height // side) * (task.width // side), width))

    def initialize(self, generator: torch.Generator) -> None:
        for weight in (self.class_token, self.positions):
            weight.normal_(0, 0.5, generator=generator)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.embed(images).flatten(2).transpose(1, 2)
        # Not len(images): while a network is exported, that turns the batch size into a constant.
        return torch.cat([self.class_token.expand(images.shape[0], -1, -1), patches], 1) + self.positions


class Attention(nn.Module):
    """Multi-head self-attention: (N, L, width) -> (N, L, width).

    Source: Vaswani et al. 2017 (arXiv 1706.03762), section 3.2.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        split = self.query_key_value(tokens).unflatten(
            2, (3, self.heads, -1)
        )  # (N, L, 3, heads, width / heads)
        mixed = F.scaled_dot_product_attention(*split.permute(2, 0, 3, 1, 4))
        return self.output(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """One layer of a Transformer, (N, L, width) -> (N, L, width): attention, then an MLP on each token.

    Each has layer normalization before it and a residual connection around it.
    Source: Dosovitskiy et al. 2021 (arXiv 2010.11929), equations 2 and 3.
    """

    def __init__(self, width: int, heads: int, hidden: int, dropout: float):
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(width), Attention(width, heads), nn.Dropout(dropout))
        self.mlp = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, hidden),
            nn.GELU(),
            nn.Linear(hidden, width),
            nn.Dropout(dropout),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attention(tokens)
        return tokens + self.mlp(tokens)


class ClassToken(nn.Module):
    """Select the class token, (N, L, width) -> (N, width), which the last layer classifies."""

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens[:, 0]


def transformer(
    depth: int, side: int, width: int, heads: int, dropout: float, task: Task = MNIST
) -> nn.Sequential:
    """Return a Transformer over ``side`` x ``side`` patches, with its blocks as layers of the Sequential."""
    return nn.Sequential(
        Patches(side, width, task),
        *(Block(width, heads, 4 * width, dropout) for _ in range(depth)),
        nn.LayerNorm(width),
        ClassToken(),
        nn.Linear(width, task.classes),
    )
