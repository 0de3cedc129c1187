"""Build and load networks by name. ARCHITECTURES lists them and says what each is for.

All networks take normalized images, (N, C, H, W) float32, and return logits, (N, classes). To add one,
add an entry to ARCHITECTURES with any module that does so. Methods that compare hidden layers find them
through kd.models.inference.FEATURES.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from kd.data.task import MNIST, Task
from kd.errors import UserError, hindrance
from kd.models import compression
from kd.models.inference import Mean, outputs
from kd.models.layers import Block, cnn, mlp, regularized_mlp, separable_cnn, transformer

MAX_LAYERS = 3
MAX_WIDTH = 2048

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class Architecture:
    """A network that can be built by name.

    Attributes:
        name: as in configs and on the command line.
        purpose: one sentence, shown in the app.
        layers: builds the network for a task.
        student: whether it is offered as a student. Any network can be trained as a teacher.
    """

    name: str
    purpose: str
    layers: Callable[[Task], nn.Module]
    student: bool = False


_VIT: dict[str, Any] = {"side": 7, "width": 96, "heads": 4, "dropout": 0.0}
ARCHITECTURES: dict[str, Architecture] = {
    entry.name: entry
    for entry in [
        Architecture(
            "linear", "One matrix: the smallest possible student.", lambda task: mlp(task=task), student=True
        ),
        Architecture(
            "mlp-30",
            "30 hidden units: so small that the temperature matters.",
            lambda task: mlp(30, task=task),
            student=True,
        ),
        Architecture(
            "mlp-128",
            "One hidden layer: quick to train, good to watch.",
            lambda task: mlp(128, task=task),
            student=True,
        ),
        Architecture(
            "mlp-800x2",
            "Hinton's student: two layers of 800, no convolutions.",
            lambda task: mlp(800, 800, task=task),
            student=True,
        ),
        Architecture(
            "mlp-1200x2",
            "Hinton's teacher: two layers of 1,200 with dropout and bounded weights.",
            lambda task: regularized_mlp(1200, 1200, bound=3.0, dropout=(0.1, 0.4), task=task),
        ),
        Architecture(
            "cnn-tiny",
            "Three small convolutions: accurate for its few weights.",
            lambda task: cnn((8, 16, 32), (2, 2, 2), dropout=0.0, task=task),
            student=True,
        ),
        Architecture(
            "cnn-small",
            "Four convolutions: smaller than the teacher and nearly as accurate.",
            lambda task: cnn((16, 32, 48, 48), (2, 1, 2, 1), dropout=0.0, task=task),
            student=True,
        ),
        Architecture(
            "cnn-separable",
            "A small MobileNet: each convolution in two cheap halves.",
            lambda task: separable_cnn((16, 32, 64, 64), (2, 1, 2, 1), task=task),
            student=True,
        ),
        Architecture(
            "vit-half",
            "Every second block of vit: a student like DistilBERT.",
            lambda task: transformer(3, **_VIT, task=task),
            student=True,
        ),
        Architecture(
            "vit",
            "A Transformer of six blocks over patches of the image: a teacher.",
            lambda task: transformer(6, **_VIT, task=task),
        ),
        Architecture(
            "cnn-wide",
            "Wider and deeper than cnn: for a stronger teacher.",
            lambda task: cnn((32, 32, 64, 64, 128, 128), (1, 1, 2, 1, 2, 1), dropout=0.3, task=task),
        ),
        Architecture(
            "cnn-pen",
            "Six convolutions and five times the weights of mlp-128: a teacher that knows handwriting.",
            lambda task: cnn((24, 48, 64, 96, 128, 192), (1, 2, 1, 2, 1, 1), dropout=0.3, task=task),
        ),
        Architecture(
            "cnn",
            "Five convolutions: a smaller teacher, trained on MNIST alone.",
            lambda task: cnn((24, 32, 48, 64, 64), (1, 2, 1, 2, 1), dropout=0.3, task=task),
        ),
    ]
}


def students() -> list[str]:
    """Return the names of the architectures offered as students. Besides them, any mlp-64-32 can be one."""
    return [name for name, entry in ARCHITECTURES.items() if entry.student]


def own_name(widths: tuple[int, ...]) -> str:
    """Return the name of an MLP with these hidden widths, such as mlp-64-32."""
    return "-".join(["mlp", *map(str, widths)])


def own_widths(name: str) -> tuple[int, ...] | None:
    """Return the hidden widths in a name like mlp-64-32; None for any other name."""
    if not re.fullmatch(r"mlp(-\d{1,9}){1,9}", name):
        return None
    return tuple(int(width) for width in name.split("-")[1:])


def architecture(name: str) -> Architecture:
    """Return the architecture called ``name``.

    It is registered, an MLP such as mlp-64-32, or a compressed form of either, such as
    mlp-64-32_neurons-50 (see kd.models.compression).

    Raises:
        UserError: there is no such architecture, or it is too large.
    """
    if isinstance(name, str) and name in ARCHITECTURES:
        return ARCHITECTURES[name]
    if isinstance(name, str) and (compressed := compression.parse_name(name[:100])):
        whole, change = architecture(compressed[0]), compressed[1]
        return Architecture(name, f"{compressed[0]}, compressed.", lambda task: change(whole.layers(task)))
    widths = own_widths(name) if isinstance(name, str) else None
    if widths is None:
        raise UserError(
            f"There is no architecture called {str(name)[:40]!r}; choose one of "
            f"{', '.join(ARCHITECTURES)}, or write your own like mlp-64-32."
        )
    if len(widths) > MAX_LAYERS or not all(1 <= width <= MAX_WIDTH for width in widths):
        raise UserError(
            f"An MLP architecture of your own can have 1 to {MAX_LAYERS} hidden layers "
            f"of 1 to {MAX_WIDTH} units each; {name[:40]} does not."
        )
    return Architecture(name, "Your own MLP.", lambda task: mlp(*widths, task=task))


@functools.lru_cache(maxsize=256)
def feature_shapes(name: str, task: Task = MNIST) -> tuple[tuple[int, ...], ...]:
    """Return the shape of each feature for one image: (C, H, W) of a map, (D,) of a vector."""
    with torch.device("meta"):
        features = outputs(skeleton(name, task).eval(), torch.zeros(1, *task.image_shape)).features
        return tuple(tuple(feature.shape[1:]) for feature in features)


def skeleton(name: str, task: Task = MNIST) -> nn.Module:
    """Return the network without weights, on the meta device. Names joined by + give their Mean."""
    if "+" in name:
        return Mean([skeleton(part, task) for part in name.split("+")])
    with torch.device("meta"):
        return architecture(name).layers(task)


def build(name: str, seed: int, task: Task = MNIST) -> nn.Module:
    """Return the network with initial weights that depend only on ``name``, ``seed`` and ``task``.

    The weights follow PyTorch's defaults (uniform within 1/sqrt(fan_in)), but come from their own generator,
    so that other threads which draw random numbers cannot change them.

    Raises:
        UserError: there is no such architecture.
    """
    model = initialize(skeleton(name, task).to_empty(device="cpu"), torch.Generator().manual_seed(seed))
    # Convolutions are faster in channels_last; dense layers are not affected.
    return model.to(memory_format=torch.channels_last)


class _InitializesItself(Protocol):
    """A layer that sets its own initial weights."""

    def initialize(self, generator: torch.Generator) -> None: ...


def initialize(model: Model, generator: torch.Generator) -> Model:
    """Set the initial weights of all layers of ``model``, in place, and return it."""
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, (nn.Linear, nn.Conv2d)):
                bound = 1 / math.sqrt(layer.weight[0].numel())
                layer.weight.uniform_(-bound, bound, generator=generator)
                if layer.bias is not None:
                    layer.bias.uniform_(-bound, bound, generator=generator)
            elif isinstance(layer, (nn.BatchNorm2d, nn.LayerNorm)):
                layer.reset_parameters()  # ones and zeros
            elif [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]:
                cast(_InitializesItself, layer).initialize(
                    generator
                )  # our own layers initialize their own weights
    return model


def inherited(student: nn.Module, teacher: nn.Module) -> dict[str, Tensor]:
    """Return weights for ``student`` from a Transformer of twice its depth.

    They are those of every second block and of all layers that are not blocks.

    Raises:
        UserError: they do not fit the student.

    Source: Sanh et al. 2019 (DistilBERT, arXiv 1910.01108), section 2.
    """
    layers = list(teacher.children())
    blocks = [place for place, layer in enumerate(layers) if isinstance(layer, Block)]
    kept = nn.Sequential(*(layer for place, layer in enumerate(layers) if place not in blocks[1::2]))
    weights = kept.state_dict()
    shapes = {key: value.shape for key, value in weights.items()}
    if not blocks or shapes != {key: value.shape for key, value in student.state_dict().items()}:
        raise UserError(
            "This student cannot start with this teacher's layers: it must be a Transformer of half the "
            "teacher's depth and otherwise the same, such as vit-half for vit. Choose those, or random "
            "initial weights."
        )
    return weights


def load(path: Path, name: str, task: Task = MNIST) -> nn.Module:
    """Return the network with the weights in a safetensors file, in eval mode.

    Raises:
        UserError: the file is missing or damaged, or its weights do not fit the network.
    """
    try:
        with open(path, "rb"):  # safetensors says of every file that cannot be opened that it is missing
            state = load_file(path)
    except FileNotFoundError:
        raise UserError(f"{path.name} is missing; restore it or choose another.") from None
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        if why := hindrance(error):
            raise UserError(f"{path.name} cannot be read ({why}); change that, or choose another.") from None
        raise UserError(f"{path.name} is damaged and cannot be read; restore it or choose another.") from None
    return with_weights(name, state, path.name, task)


def with_weights(name: str, state: dict[str, Tensor], where: str, task: Task = MNIST) -> nn.Module:
    """Return the network with the weights ``state``, in eval mode.

    Args:
        where: where the weights come from, for error messages: "student.safetensors".

    Raises:
        UserError: the weights do not fit the network, or are not finite.
    """
    model = skeleton(name, task).to_empty(device="cpu")
    expected = {key: (value.shape, value.dtype) for key, value in model.state_dict().items()}
    if {key: (value.shape, value.dtype) for key, value in state.items()} != expected:
        raise UserError(f"{where} holds the weights of a different network, not of {name}.")
    if not all(value.isfinite().all() for value in state.values()):
        raise UserError(f"{where} holds weights that are NaN or infinite.")
    model.load_state_dict(state)
    return model.to(memory_format=torch.channels_last).eval()


def as_stored(model: nn.Module, architecture: str, task: Task = MNIST) -> nn.Module:
    """Return a copy of the network as if it had been stored and loaded again.

    The copy is on the CPU, in eval mode, without masks, and in a new network's memory layout.
    """
    state = {
        key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, value in model.state_dict().items()
    }
    return with_weights(architecture, state, "The network", task)
