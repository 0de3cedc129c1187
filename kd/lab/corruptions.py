"""Corrupt test digits with growing severity: rotated, shifted, thickened, blurred or noisy.

After Mu & Gilmer 2019 (MNIST-C, arXiv 1906.02337), with severities of our own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as transforms

from kd.randomness import generator


@dataclass(frozen=True)
class Corruption:
    """A way to corrupt images."""

    name: str
    unit: str  # of the severities
    levels: tuple[float, ...]  # severities; the first is 0, which changes nothing
    apply: Callable[[Tensor, float], Tensor]  # (N, 28, 28) uint8 and a level -> the same shape


def rotated(images: Tensor, degrees: float) -> Tensor:
    """Rotate images (N, H, W) counter-clockwise."""
    return transforms.rotate(images.unsqueeze(1), degrees, InterpolationMode.BILINEAR).squeeze(1)


def shifted(images: Tensor, pixels: float) -> Tensor:
    """Shift images (N, H, W) left, right, up and down in turn, filling with black."""
    size, reach = images.shape[-1], int(pixels)
    wide = F.pad(images, [reach] * 4)
    corners = [(reach, 2 * reach), (reach, 0), (2 * reach, reach), (0, reach)]
    moved = torch.empty_like(images)
    for turn, (top, left) in enumerate(corners):
        moved[turn::4] = wide[turn::4, top : top + size, left : left + size]
    return moved


def thickened(images: Tensor, pixels: float) -> Tensor:
    """Widen the strokes of images (N, H, W) by this many pixels."""
    size = int(pixels) + 1
    return torch.from_numpy(ndimage.grey_dilation(images.cpu().numpy(), (1, size, size))).to(images.device)


def blurred(images: Tensor, pixels: float) -> Tensor:
    """Blur images (N, H, W) with a Gaussian of this standard deviation, in pixels."""
    smooth = ndimage.gaussian_filter(images.cpu().float().numpy(), (0, pixels, pixels))
    return torch.from_numpy(smooth).round().clamp(0, 255).to(torch.uint8).to(images.device)


def noisy(images: Tensor, percent: float) -> Tensor:
    """Add Gaussian noise to images (N, H, W), the same at each call.

    Its standard deviation is given in per cent of white.
    """
    noise = torch.randn(images.shape, generator=generator(0, "corruption")).to(images.device)
    return (images.float() + noise * 255 * percent / 100).round().clamp(0, 255).to(torch.uint8)


CORRUPTIONS: dict[str, Corruption] = {
    entry.name: entry
    for entry in [
        Corruption("rotated", "degrees", (0, 15, 30, 45, 60, 75), rotated),
        Corruption("shifted", "pixels", (0, 1, 2, 3, 4, 6), shifted),
        Corruption("thickened", "pixels", (0, 1, 2, 3, 4), thickened),
        Corruption("blurred", "pixels", (0, 0.5, 1, 1.5, 2, 3), blurred),
        Corruption("noisy", "% of white", (0, 15, 30, 45, 60, 75), noisy),
    ]
}
