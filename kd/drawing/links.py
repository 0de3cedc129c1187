"""Write a drawing as text for a URL, and read it back."""

from __future__ import annotations

import base64
import binascii
import zlib

import numpy as np

from kd.drawing.preprocess import SIDE
from kd.errors import UserError


def to_text(picture: np.ndarray) -> str:
    """Return a (28, 28) uint8 image as text for a URL, about 300 to 500 characters."""
    return base64.urlsafe_b64encode(zlib.compress(picture.tobytes(), 9)).decode().rstrip("=")


def from_text(text: str) -> np.ndarray:
    """Return the (28, 28) uint8 image that to_text() wrote.

    Raises:
        UserError: the text is damaged or something else.
    """
    damaged = UserError("The link's drawing is cut off or damaged; draw it again.")
    if len(text) > 2_000:
        raise damaged
    decompressor = zlib.decompressobj()
    try:
        compressed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        # Limit the size, because a few bytes can decompress to gigabytes.
        pixels = decompressor.decompress(compressed, SIDE * SIDE + 1)
    except (ValueError, binascii.Error, zlib.error):
        raise damaged from None
    if len(pixels) != SIDE * SIDE or not decompressor.eof:
        raise damaged
    # An array over bytes would be read-only; one over a bytearray is not.
    return np.frombuffer(bytearray(pixels), np.uint8).reshape(SIDE, SIDE)
