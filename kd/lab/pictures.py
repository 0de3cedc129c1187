"""Many 28x28 images as one picture file."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from torch import Tensor

GAP = 2  # pixels between images, before enlarging


def sheet(images: Tensor, columns: int, scale: int = 4) -> bytes:
    """(N, H, W) uint8 images in rows of ``columns``, enlarged without smoothing, as a PNG; N is 1 or more."""
    count, height, width = images.shape
    columns = min(columns, count)
    rows = -(-count // columns)
    page = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP), 128, np.uint8)
    for place, image in enumerate(images.cpu().numpy()):
        top, left = place // columns * (height + GAP), place % columns * (width + GAP)
        page[top : top + height, left : left + width] = image
    file = io.BytesIO()
    Image.fromarray(np.kron(page, np.ones((scale, scale), np.uint8))).save(file, "PNG")
    return file.getvalue()
