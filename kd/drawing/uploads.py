"""Read the pictures and canvases that browsers send."""

from __future__ import annotations

import numpy as np

from kd.drawing import preprocess
from kd.errors import UserError

MAX_CANVAS = 2_000_000  # pixels; a canvas of 280 px on a screen with a pixel ratio of 3 has 0.7 million


def ink_from_picture(data: bytes) -> np.ndarray:
    """Return the ink in an image file, (H, W) float32; see preprocess.ink_from_picture().

    Raises:
        UserError: the file is not an image, is damaged, or is too large.
    """
    try:
        return preprocess.ink_from_picture(data)
    except preprocess.PictureError as error:
        raise UserError(str(error)) from None


def ink_from_canvas_file(data: bytes) -> np.ndarray:
    """Return the ink of a canvas that a browser sent as a PNG file; see preprocess.ink_from_canvas().

    Raises:
        UserError: it is not a PNG file, or it is larger than any canvas.
    """
    return preprocess.ink_from_canvas(_pixels(data, MAX_CANVAS, "RGBA"))


def grey(data: bytes, most: int) -> np.ndarray:
    """Return a PNG file of at most ``most`` pixels as grey values, (H, W) uint8.

    Raises:
        UserError: it is not a PNG file, or it is larger.
    """
    return _pixels(data, most, "L")


def _pixels(data: bytes, most: int, mode: str) -> np.ndarray:
    try:
        image = preprocess.opened(data, ("PNG",), most)
        return np.asarray(preprocess.in_eight_bits(image).convert(mode))
    except preprocess.PictureError as error:
        raise UserError(str(error)) from None
    except Exception:  # noqa: BLE001 - decoders of damaged files raise nearly anything
        raise UserError(str(preprocess.unreadable())) from None
