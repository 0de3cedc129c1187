"""Augment training images. All random numbers come from the given generator."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from kd.data import handwriting as drawing
from kd.data.digits import Digits

REACH = 2  # jitter moves an image by at most this many pixels in each direction
#: All shifts (pixels down, pixels right); Digits.views holds indices into this list.
SHIFTS = [(down, right) for down in range(-REACH, REACH + 1) for right in range(-REACH, REACH + 1)]


def shifted(images: Tensor, shifts: Tensor) -> Tensor:
    """Return the images, each moved by one of SHIFTS and filled up with black.

    Args:
        images: (N, S, S) uint8; square.
        shifts: (N,) int64, indices into SHIFTS.
    """
    size, padded_size = images.shape[-1], images.shape[-1] + 2 * REACH
    padded = F.pad(images, [REACH] * 4).flatten(1)
    down, right = torch.tensor(SHIFTS, device=images.device)[shifts].unbind(1)
    corner = (REACH - down) * padded_size + REACH - right
    side = torch.arange(size, device=images.device)
    indices = corner[:, None] + (side[:, None] * padded_size + side).flatten()
    return padded.gather(1, indices).unflatten(1, (size, size))


def jitter(digits: Digits, generator: torch.Generator) -> Digits:
    """Return the images, each shifted by up to 2 whole pixels in each direction.

    An image has only 25 such views, so the teacher's logits can be cached for each of them:
    teacher and student see the same view.
    Source: Beyer et al. 2022 (arXiv 2106.05237), section 3.
    """
    return view(digits, "jitter", _random(digits, len(SHIFTS), generator))


def handwriting(digits: Digits, generator: torch.Generator) -> Digits:
    """Return one of four views of each image, as others write it; see kd.data.handwriting.

    Every image needs its true label, since what is drawn depends on it.
    """
    return view(digits, "handwriting", _random(digits, VIEWS["handwriting"], generator))


def new_handwriting(digits: Digits, generator: torch.Generator) -> Digits:
    """Return a new view of each image, as others write it, that no table of logits has.

    Where such a view would be the image itself, it is rotated, scaled and shifted as by affine().
    """
    views = _random(digits, 1 << 20, generator) + VIEWS["handwriting"]
    images = drawing.view(digits.images, digits.labels, digits.ids, views)
    same = drawing.kinds(digits.ids, views) == drawing.Kind.SAME
    images[same] = affine(digits, generator).images[same]
    return Digits(images, digits.labels, digits.ids, "")


def view(digits: Digits, augmentation: str, views: Tensor) -> Digits:
    """Return these views, (N,) int64, of the images, by an augmentation with a fixed number of views."""
    if augmentation == "jitter":
        images = shifted(digits.images, views)
    else:
        images = drawing.view(digits.images, digits.labels, digits.ids, views)
    return dataclasses.replace(digits, images=images, views=views, augmentation=augmentation)


def _random(digits: Digits, views: int, generator: torch.Generator) -> Tensor:
    return torch.randint(0, views, (len(digits),), generator=generator).to(digits.images.device)


def affine(digits: Digits, generator: torch.Generator) -> Digits:
    """Return the images, each rotated by up to 15 degrees, scaled, sheared and shifted by up to 2 px.

    The side lengths change by a factor of up to exp(0.15), the shear is at most 0.15.
    The result has no ``file``: the images are new, so nothing may be cached for them.
    """
    draw = torch.rand((6, len(digits)), generator=generator) * 2 - 1
    angle = draw[0] * (15 * torch.pi / 180)
    scale_x, scale_y = torch.exp(draw[1] * 0.15), torch.exp(draw[2] * 0.15)
    shear = draw[3] * 0.15
    cos, sin = torch.cos(angle), torch.sin(angle)
    matrix = torch.stack(
        [
            scale_x * cos,
            scale_x * (shear * cos - sin),
            draw[4] * 2 / 14,
            scale_y * sin,
            scale_y * (shear * sin + cos),
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


#: The augmentations with a fixed number of views per image, for which a teacher's logits are cached.
VIEWS = {"jitter": len(SHIFTS), "handwriting": 4}
AUGMENTATIONS: dict[str, Callable[[Digits, torch.Generator], Digits] | None] = {
    "none": None,
    "jitter": jitter,
    "affine": affine,
    "handwriting": handwriting,
    "new-handwriting": new_handwriting,
}
#: Those that draw by the label, and so need all labels, and right ones.
BY_LABEL = ("handwriting", "new-handwriting")
