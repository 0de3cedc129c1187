"""Test how a drawing on the canvas becomes an image like those of MNIST."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kd.data.digits import Mnist
from kd.drawing import preprocess
from kd.teachers.cached import CachedTeacher
from tests.drawings import answers, box, drawn
from tests.strokes import DIGITS, line, render


def rectangle(top: int, left: int, height: int, width: int, side: int = 280) -> np.ndarray:
    ink = np.zeros((side, side), np.float32)
    ink[top : top + height, left : left + width] = 1
    return ink


def centre(picture: np.ndarray, axis: int) -> float:
    """Return the centre of mass along ``axis``, in pixel indices."""
    profile = picture.sum(1 - axis, dtype=float)
    return (profile * np.arange(28)).sum() / profile.sum()


# -- canvas pixels ----------------------------------------------------------------


def test_ink_is_white_on_black_or_transparent():
    rgba = np.zeros((1, 4, 4), np.uint8)
    rgba[0] = [[0, 0, 0, 255], [0, 0, 0, 0], [255, 255, 255, 255], [255, 255, 255, 51]]
    assert preprocess.ink_from_canvas(rgba) == pytest.approx(np.array([[0, 0, 1, 0.2]]))


def test_transparent_canvas_equals_a_black_one():
    black = render(DIGITS[3])
    clear = black.copy()
    clear[..., 3], clear[..., :3] = black[..., 0], 255
    assert (
        preprocess.prepare(preprocess.ink_from_canvas(clear))
        == preprocess.prepare(preprocess.ink_from_canvas(black))
    ).all()


# -- geometry ---------------------------------------------------------------------


def test_centre_is_the_mean_centre_of_mnist(sample: Mnist):
    images = sample.train.images.double()
    place = torch.arange(28, dtype=torch.double)
    for axis in (1, 2):
        means = (images.sum(axis) * place).sum(1) / images.sum((1, 2))
        assert means.mean() == pytest.approx(preprocess.CENTRE, abs=0.02)
        assert (means - preprocess.CENTRE).abs().max() < 0.55


@pytest.mark.parametrize(
    "height, width, expected",
    [
        (200, 100, (20, 10)),
        (100, 200, (10, 20)),
        (100, 100, (20, 20)),
        (40, 40, (20, 20)),
        (270, 27, (20, 2)),
        (150, 38, (20, 5)),
        (280, 3, (20, 2)),  # very thin: 1 pixel would be left
    ],
)
def test_rectangle_is_scaled_to_20_and_centred(height, width, expected):
    picture = preprocess.prepare(rectangle(0, 3, height, width))
    assert picture.shape == (28, 28) and picture.dtype == np.uint8 and picture.max() == 255
    assert box(picture)[2:] == expected
    for axis in (0, 1):
        # By whole pixels, as in MNIST, so half a pixel may be left.
        assert centre(picture, axis) == pytest.approx(preprocess.CENTRE, abs=0.5)


def test_solid_rectangle_stays_solid():
    assert set(np.unique(preprocess.prepare(rectangle(7, 3, 200, 100)))) == {0, 255}


def test_centre_of_mass_is_centred_not_the_box():
    # A square of 100 with an arm of 50 x 100 at its top right: 10 columns of 10 pixels, then 10 of 5.
    picture = preprocess.prepare(np.maximum(rectangle(50, 50, 100, 100), rectangle(50, 150, 50, 100)))
    # The mean column is (100 * 4.5 + 50 * 14.5) / 150 = 7.8, so the first is round(14 - 7.8) = 6, not 4.
    # The mean row is (100 * 4.5 + 50 * 2) / 150 = 3.7, so the first is round(14 - 3.7) = 10, not 9.
    assert box(picture) == (10, 6, 10, 20)


def test_no_ink_is_cut_off_at_the_border():
    # The arm is 10 thin: the mean column is (100 * 4.5 + 10 * 14.5) / 110 = 5.4, so the first would be 9,
    # and 9 + 20 is more than 28.
    picture = preprocess.prepare(np.maximum(rectangle(50, 50, 100, 100), rectangle(50, 150, 10, 100)))
    assert box(picture) == (10, 8, 10, 20)


def test_scaling_down_averages_pixels():
    ink = rectangle(40, 40, 200, 200)
    ink[40:240:2] = 0  # every second line is missing
    ink[40, 40:240] = 1
    picture = preprocess.prepare(ink)
    assert picture[6:22, 6:22].mean() > 100 and len(np.unique(picture)) > 1


@pytest.mark.parametrize("width", [4, 9, 20])
def test_faint_and_thin_ink_become_white(width: int):
    ink = preprocess.ink_from_canvas(render(DIGITS[6], 280, width))
    assert preprocess.prepare(ink).max() == 255
    assert np.abs(preprocess.prepare(0.3 * ink).astype(int) - preprocess.prepare(ink)).max() <= 1


@pytest.mark.parametrize("digit", DIGITS)
def test_position_on_the_canvas_does_not_matter(digit):
    ink = preprocess.ink_from_canvas(render(DIGITS[digit]))
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    moved = np.zeros_like(ink)
    part = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    moved[: part.shape[0], -part.shape[1] :] = part
    assert (preprocess.prepare(moved) == preprocess.prepare(ink)).all()


@pytest.mark.parametrize("digit", DIGITS)
def test_size_on_the_canvas_hardly_matters(digit):
    large = preprocess.prepare(preprocess.ink_from_canvas(render(DIGITS[digit], 560, 40)))
    middle = preprocess.prepare(preprocess.ink_from_canvas(render(DIGITS[digit], 280, 20)))
    # A centre of mass between two pixels may be rounded either way.
    shifted = [np.roll(middle, (down, across), (0, 1)) for down in (-1, 0, 1) for across in (-1, 0, 1)]
    assert min(np.abs(large.astype(int) - other).mean() for other in shifted) < 6


# -- nothing, or a dot ------------------------------------------------------------


def test_empty_canvas_gives_none():
    assert preprocess.prepare(np.zeros((280, 280), np.float32)) is None
    assert preprocess.prepare(preprocess.ink_from_canvas(np.zeros((280, 280, 4), np.uint8))) is None


@pytest.mark.parametrize("width", [1, 12, 20, 28])
def test_click_gives_none_with_any_pen(width):
    assert drawn([[(0.4, 0.6)]], width) is None


def test_single_pixel_gives_none():
    assert preprocess.prepare(rectangle(100, 100, 1, 1)) is None


@pytest.mark.parametrize("width", [12, 20, 28])
def test_short_one_is_classified_as_one(shipped: CachedTeacher, width: int):
    short = drawn([line((0.50, 0.40), (0.49, 0.65))], width)
    assert answers(shipped, [short]) == [1]


# -- what models make of it -------------------------------------------------------


def test_mnist_images_pass_unchanged(sample: Mnist, shipped: CachedTeacher):
    digits = sample.train.take(slice(None, None, 20))
    assert len(digits) == 200
    enlarged = np.kron(digits.images.numpy(), np.ones((1, 10, 10), np.uint8)).astype(np.float32) / 255
    pictures = [preprocess.prepare(ink) for ink in enlarged]
    assert np.abs(np.stack(pictures).astype(int) - digits.images.numpy()).mean() < 1
    agree = torch.tensor(answers(shipped, pictures)) == shipped.logits(digits).argmax(1)
    assert agree.float().mean() >= 0.99


@pytest.mark.parametrize("width", [3, 12, 16, 20, 24, 28])
def test_teacher_classifies_all_drawn_digits(shipped: CachedTeacher, width: int):
    assert answers(shipped, [drawn(strokes, width) for strokes in DIGITS.values()]) == list(DIGITS)


@pytest.mark.parametrize("width, expected", [(2, 2), (10, 2), (20, 2), (40, 4)])
def test_only_very_thin_strokes_are_widened(width, expected):
    # A ring 200 px across: 10 px of drawing are one pixel. Its strokes are cut by row 14, left and right.
    y, x = np.mgrid[:280, :280] - 139.5
    ring = (np.abs(np.hypot(x, y) - 100 + width / 2) <= width / 2).astype(np.float32)
    picture = preprocess.prepare(ring)
    assert picture[14, :14].sum() / 255 == pytest.approx(expected, abs=0.35)
