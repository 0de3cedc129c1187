"""Digits, letters and scribbles as pen strokes, for tests that draw.

A drawing is a list of strokes, a stroke a list of (x, y) points in the unit square,
x to the right and y down, in the order in which a hand would move the mouse.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from benchmarks.drawings import tones

Stroke = list[tuple[float, float]]


def arc(x: float, y: float, wide: float, tall: float, start: float, end: float, points: int = 14) -> Stroke:
    """Return part of an ellipse around (x, y) with these radii; degrees, 0 is right, 90 is down."""
    angles = [math.radians(start + (end - start) * i / (points - 1)) for i in range(points)]
    return [(x + wide * math.cos(a), y + tall * math.sin(a)) for a in angles]


def line(*corners: tuple[float, float], points: int = 5) -> Stroke:
    """Return straight lines from corner to corner, with intermediate points like a moving mouse."""
    stroke = [corners[0]]
    for (x0, y0), (x1, y1) in itertools.pairwise(corners):
        stroke += [(x0 + (x1 - x0) * i / points, y0 + (y1 - y0) * i / points) for i in range(1, points + 1)]
    return stroke


DIGITS: dict[int, list[Stroke]] = {
    0: [arc(0.50, 0.50, 0.21, 0.32, -80, 285, 20)],
    1: [line((0.55, 0.18), (0.52, 0.50), (0.49, 0.83))],
    2: [arc(0.49, 0.34, 0.19, 0.16, 195, 380) + line((0.64, 0.45), (0.50, 0.63), (0.30, 0.80), (0.72, 0.79))],
    3: [arc(0.47, 0.33, 0.19, 0.15, 205, 445) + arc(0.47, 0.65, 0.22, 0.17, -85, 150)],
    4: [line((0.37, 0.20), (0.30, 0.55), (0.70, 0.54)), line((0.62, 0.20), (0.61, 0.50), (0.58, 0.84))],
    5: [
        line((0.37, 0.20), (0.35, 0.46)) + arc(0.45, 0.62, 0.22, 0.19, 240, 505, 16),
        line((0.37, 0.20), (0.68, 0.19)),
    ],
    6: [arc(0.68, 0.52, 0.36, 0.36, 255, 180, 10) + arc(0.49, 0.65, 0.17, 0.16, 180, -190, 18)],
    7: [line((0.28, 0.22), (0.70, 0.21), (0.58, 0.48), (0.46, 0.82))],
    8: [
        arc(0.50, 0.33, 0.15, 0.15, -40, -270, 14)
        + arc(0.50, 0.65, 0.18, 0.17, -90, 270, 18)
        + arc(0.50, 0.33, 0.15, 0.15, 90, -40, 10)
    ],
    9: [arc(0.49, 0.35, 0.17, 0.16, -20, -360, 18) + line((0.66, 0.34), (0.64, 0.58), (0.57, 0.83))],
}

#: Capital letters that resemble no digit.
LETTERS: dict[str, list[Stroke]] = {
    "A": [
        line((0.50, 0.20), (0.26, 0.82)),
        line((0.50, 0.20), (0.75, 0.82)),
        line((0.36, 0.58), (0.65, 0.58)),
    ],
    "E": [line((0.70, 0.20), (0.32, 0.20), (0.32, 0.80), (0.70, 0.80)), line((0.32, 0.50), (0.63, 0.50))],
    "H": [
        line((0.30, 0.20), (0.30, 0.80)),
        line((0.70, 0.20), (0.70, 0.80)),
        line((0.30, 0.52), (0.70, 0.50)),
    ],
    "K": [line((0.32, 0.18), (0.32, 0.82)), line((0.68, 0.20), (0.34, 0.53), (0.70, 0.82))],
    "M": [line((0.22, 0.82), (0.27, 0.22), (0.50, 0.62), (0.73, 0.22), (0.78, 0.82))],
    "N": [line((0.28, 0.80), (0.28, 0.20), (0.70, 0.80), (0.70, 0.20))],
    "R": [
        line((0.32, 0.82), (0.32, 0.20))
        + arc(0.45, 0.35, 0.20, 0.15, -90, 90)
        + line((0.45, 0.50), (0.70, 0.82))
    ],
    "T": [line((0.24, 0.22), (0.76, 0.22)), line((0.50, 0.22), (0.50, 0.82))],
    "W": [line((0.20, 0.22), (0.33, 0.80), (0.50, 0.35), (0.67, 0.80), (0.80, 0.22))],
    "X": [line((0.28, 0.22), (0.72, 0.80)), line((0.72, 0.20), (0.28, 0.80))],
}

SCRIBBLES: dict[str, list[Stroke]] = {
    "zigzag": [
        line((0.15, 0.40), (0.28, 0.66), (0.38, 0.34), (0.50, 0.68), (0.60, 0.35), (0.72, 0.66), (0.85, 0.36))
    ],
    "fence": [line((x, 0.22), (x + 0.02, 0.80)) for x in (0.20, 0.40, 0.60, 0.80)]
    + [line((0.14, 0.50), (0.88, 0.52))],
    "grid": [line((0.38, 0.18), (0.36, 0.82)), line((0.62, 0.18), (0.64, 0.82))]
    + [line((0.18, 0.38), (0.82, 0.36)), line((0.18, 0.62), (0.82, 0.64))],
    "star": [line((0.50, 0.14), (0.70, 0.82), (0.16, 0.40), (0.84, 0.40), (0.30, 0.82), (0.50, 0.14))],
    "house": [line((0.25, 0.82), (0.25, 0.45), (0.50, 0.20), (0.75, 0.45), (0.75, 0.82), (0.25, 0.82))],
    "crossing-out": [
        line(
            (0.18, 0.30),
            (0.80, 0.22),
            (0.22, 0.42),
            (0.82, 0.40),
            (0.20, 0.56),
            (0.80, 0.58),
            (0.24, 0.72),
            (0.78, 0.74),
        )
    ],
    "wave": [[(0.10 + 0.80 * i / 30, 0.50 + 0.14 * math.sin(i * 0.8)) for i in range(31)]],
    "asterisk": [
        line((0.50, 0.18), (0.50, 0.82)),
        line((0.22, 0.33), (0.78, 0.67)),
        line((0.78, 0.33), (0.22, 0.67)),
    ],
    "face": [
        arc(0.5, 0.5, 0.34, 0.34, 0, 360, 24),
        [(0.40, 0.42)],
        [(0.60, 0.42)],
        arc(0.5, 0.52, 0.16, 0.14, 20, 160, 8),
    ],
    "dots": [[(x, y)] for x in (0.25, 0.50, 0.75) for y in (0.25, 0.50, 0.75)],
}


def render(strokes: list[Stroke], size: int = 280, width: int = 20) -> np.ndarray:
    """Render strokes like a browser's canvas: (size, size, 4) uint8 RGBA, white on black, round ends."""
    grey = tones(strokes, size, width)
    return np.dstack([grey, grey, grey, np.full_like(grey, 255)])
