"""Augmentation: varied training images, with random numbers from the generator only."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from kd.data.digits import Digits

REACH = 2  # pixels that jitter moves an image by, at most, each way
SHIFTS = [(down, right) for down in range(-REACH, REACH + 1) for right in range(-REACH, REACH + 1)]


def shifted(images: Tensor, shifts: Tensor) -> Tensor:
    """(N, 28, 28) images, each moved by the one of SHIFTS that ``shifts`` (N,) names; black comes in."""
    size, wide = images.shape[-1], images.shape[-1] + 2 * REACH
    padded = F.pad(images, [REACH] * 4).flatten(1)
    down, right = torch.tensor(SHIFTS, device=images.device)[shifts].unbind(1)
    corner = (REACH - down) * wide + REACH - right
    side = torch.arange(size, device=images.device)
    places = corner[:, None] + (side[:, None] * wide + side).flatten()
    return padded.gather(1, places).unflatten(1, (size, size))


def jitter(digits: Digits, generator: torch.Generator) -> Digits:
    """Each image shifted by up to 2 whole pixels each way.

    There are only 25 such views of an image, so that a teacher's logits can be kept
    for each: teacher and student see the same one (Beyer et al. 2022).
    """
    shifts = torch.randint(0, len(SHIFTS), (len(digits),), generator=generator).to(digits.images.device)
    return Digits(shifted(digits.images, shifts), digits.labels, digits.ids, digits.file, shifts)


def affine(digits: Digits, generator: torch.Generator) -> Digits:
    """Each image turned by up to 15 degrees, scaled and sheared a little, and shifted by up to 2 px."""
    draw = torch.rand((6, len(digits)), generator=generator) * 2 - 1
    angle = draw[0] * (15 * torch.pi / 180)
    wide, tall = torch.exp(draw[1] * 0.15), torch.exp(draw[2] * 0.15)
    shear = draw[3] * 0.15
    cos, sin = torch.cos(angle), torch.sin(angle)
    matrix = torch.stack(
        [
            wide * cos,
            wide * (shear * cos - sin),
            draw[4] * 2 / 14,
            tall * sin,
            tall * (shear * sin + cos),
            draw[5] * 2 / 14,
        ],
        1,
    ).view(-1, 2, 3)
    pixels = digits.images.unsqueeze(1).float()
    grid = F.affine_grid(matrix.to(pixels.device), list(pixels.shape), align_corners=False)
    images = (
        F.grid_sample(pixels, grid, align_corners=False).round_().clamp_(0, 255).to(torch.uint8).squeeze(1)
    )
    return Digits(images, digits.labels, digits.ids, "")


AUGMENTATIONS: dict[str, Callable[[Digits, torch.Generator], Digits] | None] = {
    "none": None,
    "jitter": jitter,
    "affine": affine,
}
