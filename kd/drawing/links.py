"""A drawing as text for a URL."""

from __future__ import annotations

import base64
import binascii
import zlib

import numpy as np

from kd.drawing.preprocess import SIDE
from kd.errors import UserError


def to_text(picture: np.ndarray) -> str:
    """A (28, 28) uint8 picture as text for a URL, some 300 to 500 characters."""
    return base64.urlsafe_b64encode(zlib.compress(picture.tobytes(), 9)).decode().rstrip("=")


def from_text(text: str) -> np.ndarray:
    """The (28, 28) uint8 picture of to_text().

    Raises:
        UserError: it is something else.
    """
    wrong = UserError("The link's drawing is cut off or damaged; draw it again.")
    if len(text) > 2_000:
        raise wrong
    unpack = zlib.decompressobj()
    try:
        pixels = unpack.decompress(
            base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), SIDE * SIDE + 1
        )  # no more, however much it would unfold to
    except (ValueError, binascii.Error, zlib.error):
        raise wrong from None
    if len(pixels) != SIDE * SIDE or not unpack.eof:
        raise wrong
    return np.frombuffer(bytearray(pixels), np.uint8).reshape(
        SIDE, SIDE
    )  # bytes themselves could not be written to
