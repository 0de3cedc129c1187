"""Arrange small images in a sheet, and encode images as PNG."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

GAP = 2  # pixels between images


def sheet(images: Tensor, columns: int, between: float = 0) -> Tensor:
    """Arrange images (N, H, W), N >= 1, in rows of ``columns``, with the value ``between`` in the gaps."""
    count, height, width = images.shape
    columns = min(columns, count)
    rows = -(-count // columns)
    page = torch.full(
        (rows * (height + GAP) - GAP, columns * (width + GAP) - GAP),
        between,
        dtype=images.dtype,
        device=images.device,
    )
    for place, image in enumerate(images):
        top, left = place // columns * (height + GAP), place % columns * (width + GAP)
        page[top : top + height, left : left + width] = image
    return page


def png(pixels: np.ndarray, scale: int = 1) -> bytes:
    """Encode pixels (H, W) or (H, W, 4), uint8, as a PNG, enlarged ``scale`` times without smoothing."""
    large = np.kron(pixels, np.ones((scale, scale, *[1] * (pixels.ndim - 2)), np.uint8))
    file = io.BytesIO()
    Image.fromarray(large).save(file, "PNG")
    return file.getvalue()
