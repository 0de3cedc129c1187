"""Tell several digits, blots and ruled paper from one digit.

Networks answer as if every image showed one digit. This file needs only NumPy and imports nothing of this
program: every exported network comes with a copy of it. kd/ui/frontend/oddities.js does the same as
oddity() for drawings.
"""

from __future__ import annotations

import numpy as np

#: Pixels above this are ink, of 255: faint pixels between two digits do not join them. With these numbers,
#: 0.06% of 3,118 digits drawn with a pen of 12 px count as several, none drawn with 20 or 28 px, and 0.03%
#: of MNIST's.
INK = 127
#: Parts of a drawing are digits of their own if they stand side by side, each at least this tall ...
TALL = 0.6  # of the whole drawing's height
#: ... and with at least this share of the ink.
HEAVY = 0.1
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
    return {"ink": INK, "tall": TALL, "heavy": HEAVY, "blot": BLOT}


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
    """Return whether an image, (H, W) uint8, shows several separate tall parts side by side."""
    tall = _tall_parts(pixels > INK)
    return any(left[1] < right[0] for left in tall for right in tall)


def _tall_parts(ink: np.ndarray) -> list[tuple[int, int]]:
    """Return the first and last column of each connected part that is as tall and heavy as a digit."""
    todo = {(int(y), int(x)) for y, x in np.argwhere(ink)}
    if not todo:
        return []
    height = max(y for y, _ in todo) - min(y for y, _ in todo) + 1
    total, found = len(todo), []
    while todo:
        edge = [todo.pop()]
        part = list(edge)
        while edge:
            y, x = edge.pop()
            near = {(y + down, x + across) for down in (-1, 0, 1) for across in (-1, 0, 1)} & todo
            todo -= near
            edge += near
            part += near
        rows, columns = [y for y, _ in part], [x for _, x in part]
        if max(rows) - min(rows) + 1 >= TALL * height and len(part) >= HEAVY * total:
            found.append((min(columns), max(columns)))
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
