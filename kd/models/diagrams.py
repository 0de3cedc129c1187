"""A network's layers as a small picture, drawn from the network itself.

Each row is a layer: a bar as wide as the square root of how many numbers it gives for
one image, what it is, the shape of what it gives, and its weights. Pictures that are
to be compared share one scale. Plain SVG in the text's own colour, so that it suits
light and dark pages.
"""

from __future__ import annotations

import functools
import html
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kd.data.task import MNIST, Task
from kd.models import layers, registry

WIDTH, ROW, BAR, BARS = 350, 22, 13, 82  # pixels: the picture, a row, a bar's height, and the widest bar
GIVES, WEIGHTS = 288, WIDTH  # where these columns end


@dataclass(frozen=True)
class Stage:
    """One row: a layer with weights, or one that changes the shape, and the small ones that follow it."""

    label: str
    parts: tuple[str, ...]  # all layers in it, as PyTorch calls them
    shape: tuple[int, ...]  # of what it gives for one image
    weights: int

    @property
    def values(self) -> int:
        return math.prod(self.shape)


@functools.lru_cache(maxsize=256)
def stages(architecture: str, task: Task = MNIST) -> tuple[Stage, ...]:
    """The rows of an architecture, the image first, in the order in which the layers are called."""
    model = registry.skeleton(architecture, task).eval()
    called: list[tuple[nn.Module, Tensor]] = []
    for layer in _layers(model):
        layer.register_forward_hook(lambda layer, inputs, output: called.append((layer, output)))
    with torch.device("meta"):
        model(torch.zeros(1, *task.image_shape))
    found = [Stage("image", ("image",), task.image_shape, 0)]
    for layer, output in called:
        name, weights = type(layer).__name__, sum(weight.numel() for weight in layer.parameters())
        if isinstance(layer, _SMALL):
            before = found.pop()
            activation = f", {name}" if isinstance(layer, _ACTIVATIONS) else ""
            found.append(
                Stage(
                    before.label + activation, (*before.parts, name), before.shape, before.weights + weights
                )
            )
        else:
            found.append(Stage(_label(layer), (name,), tuple(output.shape[1:]), weights))
    return tuple(found)


def _layers(model: nn.Module) -> Iterator[nn.Module]:
    """The layers that make up a network: those of a Sequential, of one within it too; else the module's own."""
    for layer in model.children() if any(True for _ in model.children()) else [model]:
        if type(layer) is nn.Sequential:
            yield from _layers(layer)
        else:
            yield layer


_ACTIVATIONS = (nn.ReLU, nn.GELU)
_SMALL = (*_ACTIVATIONS, nn.Dropout, nn.Flatten, nn.BatchNorm2d)  # told with the layer before


def _label(layer: nn.Module) -> str:
    """What a layer is, in plain words; its class where there are none."""
    match layer:
        case nn.Conv2d():
            size = "×".join(map(str, layer.kernel_size))
            kind = (
                "depthwise"
                if layer.groups == layer.in_channels > 1
                else "pointwise"
                if layer.kernel_size == (1, 1)
                else "convolution"
            )
            return f"{size} {kind}"
        case nn.Linear():
            return "dense"
        case nn.AdaptiveAvgPool2d():
            return "mean over places"
        case nn.LayerNorm():
            return "normalization"
        case layers.Patches():
            first = next(
                inner for inner in layer.embed.modules() if isinstance(inner, nn.Conv2d)
            )  # of two, where it was factored
            return "{}×{} patches".format(*first.kernel_size)
        case layers.Block():
            return "Transformer block"
        case layers.ClassToken():
            return "class token"
    return type(layer).__name__


def in_words(architecture: str) -> str:
    """The picture for those who cannot see it."""
    rows = [
        f"{row.label}, {_shape(row)}" + (f", {row.weights:,} weights" if row.weights else "")
        for row in stages(architecture)
    ]
    return f"The layers of {architecture}: {'; '.join(rows)}."


def svg(architecture: str, colour: str, scale_with: str | None = None) -> str:
    """The picture, as wide as its place but no wider than --kd-widest, which a page may set.

    Args:
        colour: of the bars.
        scale_with: another architecture, whose picture has the same scale.
    """
    rows = stages(architecture)
    widest = max(row.values for name in (architecture, scale_with or architecture) for row in stages(name))
    widths = [max(1.5, BARS * math.sqrt(row.values / widest)) for row in rows]
    parts = [
        _text(BARS + 10, 0, "layer", muted=True),
        _text(GIVES, 0, "gives", "end", True),
        _text(WEIGHTS, 0, "weights", "end", True),
    ]
    for i, (row, width) in enumerate(zip(rows, widths), 1):
        top, left = i * ROW + (ROW - BAR) / 2, (BARS - width) / 2
        if i < len(rows):
            below = (BARS - widths[i]) / 2
            corners = [
                (left, top + BAR),
                (left + width, top + BAR),
                (below + widths[i], top + ROW),
                (below, top + ROW),
            ]
            points = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
            parts.append(f'<polygon points="{points}" fill="{colour}" opacity="0.25"/>')
        title = f"<title>{html.escape(' + '.join(row.parts))}</title>"
        shape = f'x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{BAR}" rx="1.5"'
        fill = f'fill="{colour}"' if i > 1 else 'fill="currentColor" opacity="0.6"'
        parts += [
            f"<g>{title}<rect {shape} {fill}/>",
            _text(BARS + 10, i, row.label),
            _text(GIVES, i, _shape(row), "end", True),
            _text(WEIGHTS, i, f"{row.weights:,}", "end", True) if row.weights else "",
            "</g>",
        ]
    height = (len(rows) + 1) * ROW
    return (
        f'<svg role="img" aria-label="{html.escape(in_words(architecture))}" viewBox="0 0 {WIDTH} {height}" width="100%" '
        f'style="max-width: var(--kd-widest, {1.15 * WIDTH:.0f}px); display: block" font-size="11.5">{"".join(parts)}</svg>'
    )


def _shape(row: Stage) -> str:
    return "×".join(map(str, row.shape))


def _text(x: float, row: int, text: str, anchor: str = "start", muted: bool = False) -> str:
    y, opacity = row * ROW + ROW / 2 + 4, 0.75 if muted else 1
    return f'<text x="{x}" y="{y:g}" text-anchor="{anchor}" fill="currentColor" opacity="{opacity}">{html.escape(text)}</text>'
