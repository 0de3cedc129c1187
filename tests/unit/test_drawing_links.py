"""Test drawings in links."""

from __future__ import annotations

import base64
import zlib

import numpy as np
import pytest

from kd.drawing import links
from kd.errors import UserError
from tests.drawings import drawn
from tests.strokes import DIGITS


def test_drawing_survives_a_link_unchanged():
    for strokes in DIGITS.values():
        picture = drawn(strokes)
        text = links.to_text(picture)
        assert len(text) < 800 and np.array_equal(links.from_text(text), picture)


BOMB = base64.urlsafe_b64encode(zlib.compress(bytes(10**6), 9)).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "Zm9v",
        "\N{SNOWMAN}",
        "=" * 5,
        "A" * 3_000,
        BOMB,
        links.to_text(np.zeros((28, 28), np.uint8))[:-4],
    ],
)
def test_damaged_drawing_in_a_link_is_refused(text):
    with pytest.raises(UserError, match="draw it again"):
        links.from_text(text)
