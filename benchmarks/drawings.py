"""Read drawings given as strokes, and draw them as the app's canvas does.

Two kinds of JSON files, plain or gzipped, are read. In both, a drawing has ``strokes``, lists of [x, y] in
the unit square, x to the right and y down, and ``label`` or ``digit``, what people read in it:

- an object with a list of drawings called ``digits`` and, optionally, one called ``letters``;
- a list of drawings, which may name the habit that each shows as its ``class``.

A drawing whose label is not a digit is a letter.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from kd.data.task import MNIST
from kd.drawing import preprocess
from kd.errors import UserError

CANVAS = 280  # pixels per side of the app's canvas
PEN = 20  # width of its pen, in pixels
FINE = 4  # drawings are drawn this much larger and averaged, since Pillow's lines have hard edges

#: The label of what is not a digit.
LETTER = -1

Strokes = Sequence[Sequence[Sequence[float]]]


@dataclass(frozen=True)
class Drawing:
    """A drawing: what it shows, its strokes in the unit square, and the habit that it is an example of."""

    label: int  # the digit, or LETTER
    strokes: Strokes
    habit: str = ""


class Condition(NamedTuple):
    """How drawings are drawn."""

    pen: float = PEN  # width in pixels of the canvas
    size: float = 1.0  # factor of the drawing's size; the pen stays
    rotation: float = 0.0  # degrees, clockwise
    slant: float = 0.0  # how far the top leans to the right, per height

    def __str__(self) -> str:
        parts = [f"pen {self.pen:g} px"] if self.pen != PEN else []
        parts += [f"{self.size:g} times the size"] if self.size != 1 else []
        parts += [f"rotated by {self.rotation:g}°"] if self.rotation else []
        parts += [f"slant {self.slant:g}"] if self.slant else []
        return ", ".join(parts) or f"as drawn, pen {PEN} px"


AS_DRAWN = Condition()


class Rendered(NamedTuple):
    """Drawings as networks see them."""

    images: np.ndarray  # (N, 28, 28) uint8; all 0 where only a dot was drawn
    labels: np.ndarray  # (N,) int64, LETTER for what is not a digit


def read(path: str | Path) -> list[Drawing]:
    """Return the drawings in a JSON file, plain or gzipped.

    Raises:
        UserError: the file cannot be read, or does not hold drawings.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be opened ({error.strerror}). Check its name.") from None
    try:
        text = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        found = json.loads(text)
    except (OSError, EOFError, zlib.error, ValueError, RecursionError):
        raise UserError(f"{path} is not a JSON file, plain or gzipped, or it is damaged.") from None
    if isinstance(found, dict) and isinstance(found.get("digits"), list):
        entries = [*found["digits"], *_letters(found.get("letters", []), path)]
    elif isinstance(found, list):
        entries = found
    else:
        raise UserError(
            f'{path} holds no drawings. It must be a list of drawings, or an object with a list "digits" and '
            'perhaps a list "letters".'
        )
    if not entries:
        raise UserError(f"{path} holds no drawings: its lists are empty.")
    return [_drawing(entry, number, path) for number, entry in enumerate(entries, 1)]


def _letters(entries: Any, path: Path) -> list[Any]:
    """Return the entries of a list of letters, whose labels may be missing."""
    if not isinstance(entries, list):
        raise UserError(f'"letters" in {path} must be a list of drawings.')
    return [{**entry, "label": "letter"} if isinstance(entry, dict) else entry for entry in entries]


def _drawing(entry: Any, number: int, path: Path) -> Drawing:
    where = f"Drawing {number} in {path}"
    if not isinstance(entry, dict):
        raise UserError(f'{where} must be an object with "label" and "strokes".')
    label, strokes, habit = (
        entry.get("label", entry.get("digit")),
        entry.get("strokes"),
        entry.get("class", ""),
    )
    if not isinstance(label, str | int) or isinstance(label, bool) or label == "":
        raise UserError(f'{where} has no label. Give what people read in it as "label", such as "7" or "A".')
    if not isinstance(habit, str):
        raise UserError(f'The "class" of {where[0].lower()}{where[1:]} must be text.')
    if not _are_strokes(strokes):
        raise UserError(
            f'{where} has no usable strokes. "strokes" must be a list of lists of [x, y], '
            "numbers from -1 to 2."
        )
    digit = str(label) in MNIST.class_names
    return Drawing(MNIST.class_names.index(str(label)) if digit else LETTER, strokes, habit)


def _are_strokes(strokes: Any) -> bool:
    """Return whether ``strokes`` is a list of lists of points in or near the unit square."""
    if not isinstance(strokes, list) or not strokes:
        return False
    return all(
        isinstance(stroke, list)
        and stroke
        and all(isinstance(point, list) and len(point) == 2 and all(map(_is_near, point)) for point in stroke)
        for stroke in strokes
    )


def _is_near(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -1 <= value <= 2


def tones(strokes: Strokes, side: int = CANVAS, pen: float = PEN) -> np.ndarray:
    """Return strokes drawn with round ends, (side, side) uint8: white on black, antialiased."""
    image = Image.new("L", (side * FINE, side * FINE))
    draw = ImageDraw.Draw(image)
    radius = pen * FINE / 2
    for stroke in strokes:
        points = [(x * side * FINE, y * side * FINE) for x, y in stroke]
        draw.line(points, fill=255, width=round(pen * FINE))
        for x, y in points:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return np.asarray(image.reduce(FINE))


def moved(strokes: Strokes, condition: Condition) -> list[list[tuple[float, float]]]:
    """Return strokes resized, slanted and then rotated around the middle of the canvas."""
    angle = math.radians(condition.rotation)
    cos, sin, size = math.cos(angle), math.sin(angle), condition.size

    def move(x: float, y: float) -> tuple[float, float]:
        across, down = size * (x - 0.5), size * (y - 0.5)
        across -= condition.slant * down
        return 0.5 + cos * across - sin * down, 0.5 + sin * across + cos * down

    return [[move(x, y) for x, y in stroke] for stroke in strokes]


def render(drawings: Sequence[Drawing], condition: Condition = AS_DRAWN) -> Rendered:
    """Return drawings as networks see them when drawn in the app: about 1,500 per second."""
    images = np.zeros((len(drawings), preprocess.SIDE, preprocess.SIDE), np.uint8)
    for image, drawing in zip(images, drawings, strict=True):
        picture = preprocess.prepare(_INK[tones(moved(drawing.strokes, condition), CANVAS, condition.pen)])
        if picture is not None:
            image[:] = picture
    return Rendered(images, np.array([drawing.label for drawing in drawings], np.int64))


def _ink_of_tones() -> np.ndarray:
    """Return the ink of each tone of white on black, (256,) float32, as the canvas' bytes give it."""
    tone = np.arange(256, dtype=np.uint8)
    return preprocess.ink_from_canvas(np.dstack([tone, tone, tone, np.full_like(tone, 255)]))[0]


_INK = _ink_of_tones()
