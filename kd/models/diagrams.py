"""Draw a network's layers as a small SVG, from the network itself.

Each row is a layer: a bar, a label, the shape of its output for one image, and its number of weights. Bar
width is proportional to the square root of the output's size. Diagrams that are compared share a scale. Text
takes the page's colour, so that the SVG fits light and dark themes.
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

WIDTH, ROW, BAR, BARS = 350, 22, 13, 82  # pixels: the diagram, a row, a bar's height, the widest bar
OUTPUT_END, WEIGHTS_END = 288, WIDTH  # right edges of these columns, in pixels


@dataclass(frozen=True)
class Stage:
    """One row: a layer with weights, or one that changes the shape, with the small layers that follow it.

    Attributes:
        label: in plain words.
        parts: PyTorch's class names of all layers in the row.
        shape: of the output for one image.
        weights: number of weights.
    """

    label: str
    parts: tuple[str, ...]
    shape: tuple[int, ...]
    weights: int

    @property
    def values(self) -> int:
        """Return how many values the row outputs for one image."""
        return math.prod(self.shape)


@functools.lru_cache(maxsize=256)
def stages(architecture: str, task: Task = MNIST) -> tuple[Stage, ...]:
    """Return the rows of an architecture: the image, then the layers in the order of their calls."""
    model = registry.skeleton(architecture, task).eval()
    called: list[tuple[nn.Module, Tensor]] = []
    for layer in _layers(model):
        layer.register_forward_hook(lambda layer, inputs, output: called.append((layer, output)))
    with torch.device("meta"):
        model(torch.zeros(1, *task.image_shape))
    rows = [Stage("image", ("image",), task.image_shape, 0)]
    for layer, output in called:
        name, weights = type(layer).__name__, sum(weight.numel() for weight in layer.parameters())
        if isinstance(layer, _SMALL):
            before = rows.pop()
            activation = f", {name}" if isinstance(layer, _ACTIVATIONS) else ""
            rows.append(
                Stage(
                    before.label + activation, (*before.parts, name), before.shape, before.weights + weights
                )
            )
        else:
            rows.append(Stage(_label(layer), (name,), tuple(output.shape[1:]), weights))
    return tuple(rows)


def _layers(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the children of a network, entering nested Sequentials; without children, the network itself."""
    for layer in list(model.children()) or [model]:
        if type(layer) is nn.Sequential:
            yield from _layers(layer)
        else:
            yield layer


_ACTIVATIONS = (nn.ReLU, nn.GELU)
_SMALL = (*_ACTIVATIONS, nn.Dropout, nn.Flatten, nn.BatchNorm2d)  # shown in the row of the layer before


def _label(layer: nn.Module) -> str:
    """Return a label in plain words, or the class name if there is none for this layer."""
    match layer:
        case nn.Conv2d():
            size = "×".join(map(str, layer.kernel_size))
            if layer.groups == layer.in_channels > 1:
                return f"{size} depthwise"
            return f"{size} pointwise" if layer.kernel_size == (1, 1) else f"{size} convolution"
        case nn.Linear():
            return "dense"
        case nn.AdaptiveAvgPool2d():
            return "mean over positions"
        case nn.LayerNorm():
            return "normalization"
        case layers.Patches():
            # A factored embedding has two convolutions; the first one cuts the patches.
            first = next(inner for inner in layer.embed.modules() if isinstance(inner, nn.Conv2d))
            return "{}×{} patches".format(*first.kernel_size)
        case layers.Block():
            return "Transformer block"
        case layers.ClassToken():
            return "class token"
    return type(layer).__name__


def in_words(architecture: str) -> str:
    """Return the diagram's content as a sentence, for screen readers."""
    rows = [
        f"{row.label}, {_shape(row)}" + (f", {row.weights:,} weights" if row.weights else "")
        for row in stages(architecture)
    ]
    return f"The layers of {architecture}: {'; '.join(rows)}."


def svg(architecture: str, colour: str, scale_with: str | None = None) -> str:
    """Return the diagram as SVG. It fills its container, up to the width --kd-widest that a page may set.

    Args:
        architecture: a name for kd.models.registry.
        colour: CSS colour of the bars.
        scale_with: another architecture whose diagram has the same scale.
    """
    rows = stages(architecture)
    widest = max(row.values for name in (architecture, scale_with or architecture) for row in stages(name))
    widths = [max(1.5, BARS * math.sqrt(row.values / widest)) for row in rows]
    parts = [
        _text(BARS + 10, 0, "layer", muted=True),
        _text(OUTPUT_END, 0, "output", "end", True),
        _text(WEIGHTS_END, 0, "weights", "end", True),
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
            _text(OUTPUT_END, i, _shape(row), "end", True),
            _text(WEIGHTS_END, i, f"{row.weights:,}", "end", True) if row.weights else "",
            "</g>",
        ]
    height = (len(rows) + 1) * ROW
    label = html.escape(in_words(architecture))
    style = f"max-width: var(--kd-widest, {1.15 * WIDTH:.0f}px); display: block"
    return (
        f'<svg role="img" aria-label="{label}" viewBox="0 0 {WIDTH} {height}" width="100%" '
        f'style="{style}" font-size="11.5">{"".join(parts)}</svg>'
    )


def _shape(row: Stage) -> str:
    return "×".join(map(str, row.shape))


def _text(x: float, row: int, text: str, anchor: str = "start", muted: bool = False) -> str:
    y, opacity = row * ROW + ROW / 2 + 4, 0.75 if muted else 1
    return (
        f'<text x="{x}" y="{y:g}" text-anchor="{anchor}" fill="currentColor" opacity="{opacity}">'
        f"{html.escape(text)}</text>"
    )
