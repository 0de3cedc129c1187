"""Tell several digits, blots and ruled paper from one digit.

Networks answer as if every image showed one digit. This file needs only NumPy and imports nothing of this
program: every exported network comes with a copy of it. kd/ui/frontend/oddities.js does the same as
oddity() for drawings.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

#: Pixels above this are ink, of 255: faint pixels between two digits do not join them. With these numbers,
#: at most 0.16% of 3,118 digits drawn with pens of 12, 20 and 28 px count as several, and 0.03% of MNIST's.
INK = 127
#: Parts of a drawing are digits of their own if they stand side by side, each at least this tall ...
TALL = 0.6  # of the whole drawing's height
#: ... and with at least this share of the ink.
HEAVY = 0.1
#: Holes side by side belong to several digits if each is at least this tall.
HOLE = 0.5  # of the whole drawing's height
#: A solid square with sides of this many pixels is a blot. No drawn digit has one, and 0.15% of MNIST.
BLOT = 9

#: What is said about each kind of oddity.
WARNINGS = {
    "several": "This looks like more than one digit. Networks see all of them as a single one.",
    "blot": "Not a digit? This looks like a blot. Networks always answer something.",
    "lines": "This looks like ruled paper. Networks see the lines too: use plain paper.",
    "unfamiliar": (
        "Not a digit? The teacher's features say that it looks less like one than 99% of real digits do. "
        "Networks always answer something."
    ),
}


def constants() -> dict[str, float]:
    """Return the numbers that oddity() depends on, by their names in kd/ui/frontend/oddities.js."""
    return {"ink": INK, "tall": TALL, "heavy": HEAVY, "hole": HOLE, "blot": BLOT}


def oddity(pixels: np.ndarray, ink: np.ndarray | None = None) -> str | None:
    """Return the key of WARNINGS that an image deserves, or None.

    Args:
        pixels: (28, 28) uint8, as preprocess.prepare() returns it.
        ink: (H, W) float32, the picture's ink, to recognize ruled paper; None for a drawing.
    """
    if ink is not None and has_lines(ink):
        return "lines"
    if has_several_digits(pixels):
        return "several"
    return "blot" if is_blot(pixels) else None


def has_several_digits(pixels: np.ndarray) -> bool:
    """Return whether an image, (H, W) uint8, shows several tall parts, or several tall holes, side by side.

    Digits that touch are a single part, but loops next to each other, as in 00, belong to several digits.
    """
    ink = pixels > INK
    parts = _parts(ink, corners=True)
    if not parts:
        return False
    height = max(part.bottom for part in parts) - min(part.top for part in parts) + 1
    heavy = [part for part in parts if part.size >= HEAVY * ink.sum()]
    last_row, last_column = ink.shape[0] - 1, ink.shape[1] - 1
    holes = [
        part
        for part in _parts(~ink, corners=False)
        if part.top > 0 and part.left > 0 and part.bottom < last_row and part.right < last_column
    ]
    return _side_by_side(heavy, TALL * height) or _side_by_side(holes, HOLE * height)


def _side_by_side(parts: list[_Part], tall: float) -> bool:
    """Return whether two parts that are at least ``tall`` have no column in common."""
    tall_ones = [part for part in parts if part.bottom - part.top + 1 >= tall]
    return any(left.right < right.left for left in tall_ones for right in tall_ones)


class _Part(NamedTuple):
    """The first and last row and column of a connected part, and how many pixels it has."""

    top: int
    bottom: int
    left: int
    right: int
    size: int


def _parts(mask: np.ndarray, corners: bool) -> list[_Part]:
    """Return the connected parts of ``mask``, (H, W) bool; pixels may be connected by ``corners``."""
    steps = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if corners or not y or not x]
    todo = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    found = []
    while todo:
        edge = [todo.pop()]
        part = list(edge)
        while edge:
            y, x = edge.pop()
            near = {(y + down, x + across) for down, across in steps} & todo
            todo -= near
            edge += near
            part += near
        rows, columns = [y for y, _ in part], [x for _, x in part]
        found.append(_Part(min(rows), max(rows), min(columns), max(columns), len(part)))
    return found


def is_blot(pixels: np.ndarray) -> bool:
    """Return whether an image, (H, W) uint8, has a solid square of BLOT pixels."""
    solid = (pixels > 127).cumsum(0).cumsum(1)
    solid = np.pad(solid, ((1, 0), (1, 0)))
    full = solid[BLOT:, BLOT:] - solid[:-BLOT, BLOT:] - solid[BLOT:, :-BLOT] + solid[:-BLOT, :-BLOT]
    return bool((full == BLOT * BLOT).any())


def has_lines(ink: np.ndarray) -> bool:
    """Return whether a picture's ink, (H, W), has two or more straight lines from edge to edge of the ink.

    Lines may be tilted by up to one in ten.
    """
    mask = ink > 0
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return False
    mask = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = mask.shape
    across = np.arange(width)
    for tilt in np.linspace(-0.1, 0.1, 21):
        shift = np.rint(tilt * (across - width / 2)).astype(int)
        margin = int(np.abs(shift).max())
        tilted = np.pad(mask, ((margin, margin), (0, 0)))
        tilted = tilted[np.arange(height)[:, None] + margin + shift, across]
        if _lines(tilted.mean(1)) >= 2:
            return True
    return False


def _lines(covered: np.ndarray) -> int:
    """Return how many thin lines there are among rows of which a share is ``covered`` by ink."""
    edges = np.flatnonzero(np.diff(np.pad(covered > 0.5, 1).astype(np.int8)))
    bands = [covered[start:end] for start, end in zip(edges[::2], edges[1::2])]
    return sum(len(band) <= len(covered) / 12 and band.max() > 0.9 for band in bands)
