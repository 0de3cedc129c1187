"""Invented values for the fuzz test: texts, numbers, mangled JSON and damaged files."""

from __future__ import annotations

import math
import random
import struct
from typing import Any

NAMES = [
    "",
    " ",
    ".",
    "..",
    "../..",
    "/etc/passwd",
    "a/b",
    "..\\..",
    "C:\\x",
    "~",
    "x\0y",
    "a\nb",
    "\u202egnp.exe",
    "\u200b",
    "\ud800",
    "é" * 300,
    "x" * 100_000,
    "²",
    "٣",
    "<script>alert(1)</script>",
    "![x](http://127.0.0.1:9/)",
    "{}",
    "%s%n",
    "'; --",
    "nan",
    "inf",
    "-inf",
    "1e400",
    "-1",
    "0",
    "1",
    "0x10",
    "1_000",
    "９",
    "True",
    "None",
    "null",
    "20260101-120000-0123456789abcdef",
    "20260101-120000-0123456789abcdef/../x",
    "cnn",
    "cnn+vit",
    "+",
    "+".join(["cnn"] * 200),
    "cnn+" * 5,
    "mlp-1",
    "mlp-2048-2048-2048",
    "mlp-2049",
    "mlp-0",
    "mlp-64-32_neurons-50",
    "linear_rank-99",
    "mlp-1_neurons-99_neurons-99_rank-99",
    "vit_rank-50",
    "cnn_neurons-99",
    "cnn-separable_neurons-99_rank-99",
    "mlp-30" + "_neurons-1" * 9,
    "vit-half",
    "cnn-wide",
    "mlp-1200x2",
    "assistant",
    "born-again",
    "mutual",
    "exits",
    "fitnets",
    "attention",
    "rkd",
    "0123456789",
    "012345678",
    "3:temperature=8",
    "0:temperature=nan",
    ";" * 5000,
    "1:temperature=2;" * 1001,
    "soft-targets",
    "break-it",
    "hand",
    "labels",
    "student",
    "teacher",
    "jitter",
    "affine",
    "sgd",
    "off",
    "dynamic",
]
NUMBERS = [
    0,
    -1,
    1,
    2,
    10,
    28,
    255,
    1e-300,
    1e300,
    10**400,
    -(10**19),
    2**31 - 1,
    2**31,
    2**63,
    0.5,
    1.0000001,
    math.nan,
    math.inf,
    -math.inf,
    True,
    False,
    None,
]


class Invention:
    """Draw invented values.

    Args:
        draw: the source of randomness.
    """

    def __init__(self, draw: random.Random):
        self.draw = draw

    def text(self) -> str:
        """Return one of NAMES, or random characters."""
        if self.draw.random() < 0.8:
            return self.draw.choice(NAMES)
        return "".join(
            chr(self.draw.choice([self.draw.randrange(32, 127), self.draw.randrange(0xD7FF)]))
            for _ in range(self.draw.randrange(20))
        )

    def value(self, depth: int = 2) -> Any:
        """Return a text, a number, or a list or dict of such values."""
        kind = self.draw.random()
        if kind < 0.45:
            return self.text()
        if kind < 0.85 or depth == 0:
            return self.draw.choice(NUMBERS) if kind < 0.75 else self.draw.uniform(-5, 100)
        if kind < 0.95:
            return [self.value(depth - 1) for _ in range(self.draw.randrange(4))]
        return {self.text(): self.value(depth - 1) for _ in range(self.draw.randrange(4))}

    def mangled(self, value: Any) -> Any:
        """Return JSON data with something replaced, removed or added."""
        if isinstance(value, dict) and value and self.draw.random() < 0.85:
            key = self.draw.choice(list(value))
            how = self.draw.random()
            if how < 0.1:
                return {name: inner for name, inner in value.items() if name != key}
            return value | ({self.text(): self.value()} if how < 0.2 else {key: self.mangled(value[key])})
        if isinstance(value, list) and value and self.draw.random() < 0.8:
            place = self.draw.randrange(len(value))
            return value[:place] + [self.mangled(value[place])] * self.draw.randrange(3) + value[place + 1 :]
        return self.value()

    def damaged(self, content: bytes) -> bytes:
        """Return bytes, some of which are changed, cut off, doubled or inserted."""
        damaged = bytearray(content)
        for _ in range(self.draw.choice([1, 1, 2, 5])):
            place, how = self.draw.randrange(len(damaged) + 1), self.draw.randrange(6)
            if self.draw.random() < 0.6:
                place = min(place, self.draw.randrange(200))  # headers are at the beginning
            if how == 0:
                del damaged[place:]
            elif how == 1:
                damaged[place : place + 8] = self.draw.choice(
                    [
                        b"\xff" * 8,
                        b"\0" * 8,
                        struct.pack("<Q", 2**62),
                        struct.pack("<Q", self.draw.randrange(4000)),
                    ]
                )
            elif how == 2:
                damaged[place:place] = self.draw.randbytes(self.draw.randrange(20))
            elif how == 3:
                damaged[place:place] = damaged[place : place + 500]
            elif how == 4 and place < len(damaged):
                damaged[place] = self.draw.randrange(256)
            else:
                del damaged[place : place + self.draw.randrange(1, 30)]
        return bytes(damaged)
