"""ARCHITECTURES: every network by name, how to build it and what it is for.

All take normalized images, shape (N, 1, 28, 28), float32, and return logits,
shape (N, 10). To add an architecture, add one entry to ARCHITECTURES; if its hidden
layers are of a new kind, name that in FEATURES.
"""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from kd.errors import UserError

INPUT_SHAPE = (1, 28, 28)
CLASSES = 10

CHUNK = 64  # images that a network answers about at once

MAX_LAYERS = 3
MAX_WIDTH = 2048


class Outputs(NamedTuple):
    """What a network says about a batch."""

    logits: Tensor  # (N, 10)
    features: tuple[Tensor, ...] = ()  # of hidden layers, from shallow to deep, where they were asked for


@dataclass(frozen=True)
class Architecture:
    """A network that can be built by name."""

    name: str
    purpose: str  # one line, shown in the app
    layers: Callable[[], nn.Sequential]


class BoundedLinear(nn.Linear):
    """A linear layer whose units' incoming weights have at most the norm ``bound``, at each training step.

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


def mlp(*widths: int) -> nn.Sequential:
    """A multilayer perceptron 784-widths-10 with ReLU; no widths give a linear model."""
    layers: list[nn.Module] = [nn.Flatten()]
    sizes = [math.prod(INPUT_SHAPE), *widths]
    for inputs, outputs in zip(sizes, sizes[1:]):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], CLASSES))


def regularized_mlp(*widths: int, bound: float, dropout: tuple[float, float]) -> nn.Sequential:
    """An MLP with bounded weights and dropout: of the first share of the pixels and the second of the hidden units."""
    layers: list[nn.Module] = [nn.Flatten(), nn.Dropout(dropout[0])]
    sizes = [math.prod(INPUT_SHAPE), *widths]
    for inputs, outputs in zip(sizes, sizes[1:]):
        layers += [BoundedLinear(inputs, outputs, bound), nn.ReLU(), nn.Dropout(dropout[1])]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], CLASSES))


def cnn(channels: tuple[int, ...], strides: tuple[int, ...], dropout: float) -> nn.Sequential:
    """3x3 convolutions with batch normalization and ReLU, then one linear layer."""
    layers: list[nn.Module] = []
    side, inputs = INPUT_SHAPE[-1], 1
    for outputs, stride in zip(channels, strides, strict=True):
        layers += [
            nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        ]
        side, inputs = math.ceil(side / stride), outputs
    if dropout:
        layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(inputs * side * side, CLASSES))


ARCHITECTURES: dict[str, Architecture] = {
    entry.name: entry
    for entry in [
        Architecture("linear", "One matrix: the least a student can be.", lambda: mlp()),
        Architecture("mlp-30", "30 hidden units: so small that the temperature matters.", lambda: mlp(30)),
        Architecture("mlp-128", "One hidden layer: quick to train, good to watch.", lambda: mlp(128)),
        Architecture("mlp-800x2", "Hinton's student: two layers of 800, no convolutions.", lambda: mlp(800, 800)),
        Architecture(
            "mlp-1200x2", "Hinton's teacher: two layers of 1,200 with dropout and bounded weights.",
            lambda: regularized_mlp(1200, 1200, bound=3.0, dropout=(0.1, 0.4)),
        ),
        Architecture(
            "cnn-tiny", "Three small convolutions: few weights, well spent.", lambda: cnn((8, 16, 32), (2, 2, 2), 0.0)
        ),
        Architecture(
            "cnn", "Five convolutions: the teacher.", lambda: cnn((24, 32, 48, 64, 64), (1, 2, 1, 2, 1), 0.3)
        ),
    ]
}

#: What the app offers as students; "your own" is spelled mlp-64-32.
STUDENTS = ("linear", "mlp-30", "mlp-128", "mlp-800x2", "cnn-tiny")


def own_name(widths: tuple[int, ...]) -> str:
    """The name of an MLP of one's own, such as mlp-64-32."""
    return "-".join(["mlp", *map(str, widths)])


def own_widths(name: str) -> tuple[int, ...] | None:
    """The widths in a name like mlp-64-32; None where the name is of another kind."""
    if not re.fullmatch(r"mlp(-\d{1,9}){1,9}", name):
        return None
    return tuple(int(width) for width in name.split("-")[1:])


def architecture(name: str) -> Architecture:
    """The architecture called ``name``: a registered one, or an MLP like mlp-64-32.

    Raises:
        UserError: no such architecture, or one that is too large.
    """
    if isinstance(name, str) and name in ARCHITECTURES:
        return ARCHITECTURES[name]
    widths = own_widths(name) if isinstance(name, str) else None
    if widths is None:
        raise UserError(
            f"There is no architecture called {str(name)[:40]!r}; choose one of "
            f"{', '.join(ARCHITECTURES)}, or write your own like mlp-64-32."
        )
    if len(widths) > MAX_LAYERS or not all(1 <= width <= MAX_WIDTH for width in widths):
        raise UserError(
            f"An architecture of your own has 1 to {MAX_LAYERS} hidden layers of 1 to {MAX_WIDTH} units each; "
            f"{name[:40]} does not."
        )
    return Architecture(name, "An MLP of your own.", lambda: mlp(*widths))


#: A network's features are the outputs of its layers of these kinds: (N, C, H, W) after a convolution, (N, D) after a dense layer.
FEATURES = (nn.ReLU,)


def outputs(model: nn.Sequential, inputs: Tensor) -> Outputs:
    """The logits of ``inputs`` (N, 1, 28, 28) with all features, from shallow to deep."""
    features = []
    for layer in model:
        inputs = layer(inputs)
        if isinstance(layer, FEATURES):
            features.append(inputs)
    return Outputs(inputs, tuple(features))


@functools.lru_cache(maxsize=256)
def feature_shapes(name: str) -> tuple[tuple[int, ...], ...]:
    """The shape of each feature of an architecture for one image: (C, H, W) of a map, (D,) of a vector."""
    with torch.device("meta"):
        return tuple(tuple(feature.shape[1:]) for feature in outputs(skeleton(name).eval(), torch.zeros(1, *INPUT_SHAPE)).features)


class Mean(nn.Module):
    """Several networks as one, which gives the mean of their logits."""

    def __init__(self, networks: list[nn.Module]):
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.stack([network(inputs) for network in self.networks]).mean(0)


def skeleton(name: str) -> nn.Module:
    """The network without weights (on the meta device): enough to count with. Names joined by + give their Mean."""
    if "+" in name:
        return Mean([skeleton(part) for part in name.split("+")])
    with torch.device("meta"):
        return architecture(name).layers()


def build(name: str, seed: int) -> nn.Module:
    """The network with initial weights that depend on ``name`` and ``seed`` alone.

    The weights follow PyTorch's own defaults (uniform within 1/sqrt(fan_in)), but are
    drawn from a generator of their own: other threads that draw random numbers
    cannot change them.
    """
    model = initialize(skeleton(name).to_empty(device="cpu"), torch.Generator().manual_seed(seed))
    # Convolutions on channels_last are faster; dense layers do not mind.
    return model.to(memory_format=torch.channels_last)


def initialize(model: nn.Module, generator: torch.Generator) -> nn.Module:
    """Gives all layers of ``model`` their initial weights, in place."""
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, (nn.Linear, nn.Conv2d)):
                bound = 1 / math.sqrt(layer.weight[0].numel())
                layer.weight.uniform_(-bound, bound, generator=generator)
                if layer.bias is not None:
                    layer.bias.uniform_(-bound, bound, generator=generator)
            elif isinstance(layer, nn.BatchNorm2d):
                layer.reset_running_stats()
                layer.reset_parameters()
    return model


def load(path: Path, name: str) -> nn.Sequential:
    """The network with the weights in a safetensors file, in eval mode.

    Raises:
        UserError: the file is missing or damaged, or is of another architecture.
    """
    model = skeleton(name).to_empty(device="cpu")
    try:
        state = load_file(path)
    except FileNotFoundError:
        raise UserError(f"{path.name} is missing; restore it or choose another.") from None
    except (SafetensorError, OSError, ValueError):
        raise UserError(f"{path.name} is damaged and cannot be read; restore it or choose another.") from None
    expected = {key: (value.shape, value.dtype) for key, value in model.state_dict().items()}
    if {key: (value.shape, value.dtype) for key, value in state.items()} != expected:
        raise UserError(f"{path.name} holds the weights of another network than {name}.")
    if not all(value.isfinite().all() for value in state.values()):
        raise UserError(f"{path.name} holds weights that are not finite numbers.")
    model.load_state_dict(state)
    return model.to(memory_format=torch.channels_last).eval()


def logits_in_chunks(model: nn.Module, inputs: Tensor, chunk: int = CHUNK) -> Tensor:
    """Logits (N, 10) of ``inputs`` (N, 1, 28, 28), without gradients, in eval mode."""
    return in_chunks(model, model, inputs, chunk)


def in_chunks(model: nn.Module, ask: Callable[[Tensor], Tensor], inputs: Tensor, chunk: int = CHUNK) -> Tensor:
    """What ``ask``, which uses ``model``, gives for ``inputs`` (N, 1, 28, 28), without gradients, in eval mode.

    Small chunks in channels_last stay in the processor's cache: a convolutional
    teacher is over twice as fast as with chunks of 1,000 in the default layout.
    """
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            return torch.cat([ask(part.contiguous(memory_format=torch.channels_last)) for part in inputs.split(chunk)])
    finally:
        model.train(was_training)
