"""Test which drawings and pictures are not those of one digit, and what is said about them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kd.data.digits import Mnist
from kd.drawing import doubts, familiarity, oddities, preprocess, uploads
from kd.models import registry
from kd.ui.drawing import answers
from tests.drawings import drawn
from tests.strokes import DIGITS, SCRIBBLES, line, render

CASES = Path(__file__).parents[1] / "cases"
SEVERAL = json.loads((CASES / "two-digits.json").read_text())


def disc(radius: float, flat: float = 1.0) -> np.ndarray:
    """Return a solid ellipse on a canvas of 280 pixels."""
    y, x = np.mgrid[:280, :280] - 140
    return (x * x + flat * flat * y * y <= radius * radius).astype(np.float32)


def picture(ink: np.ndarray) -> np.ndarray:
    """Return the ink that is found in a picture of ``ink`` on white paper."""
    file = io.BytesIO()
    Image.fromarray(np.rint(255 * (1 - ink)).astype(np.uint8)).save(file, "PNG")
    return uploads.ink_from_picture(file.getvalue())


# -- several digits -----------------------------------------------------------------------


@pytest.mark.parametrize("pen", [8, 12, 20, 28])
@pytest.mark.parametrize("name", SEVERAL)
def test_several_digits_are_noticed(name: str, pen: int):
    assert oddities.oddity(drawn(SEVERAL[name], pen)) == "several"


@pytest.mark.parametrize("name", ["two_far_3_7.png", "two_near_1_0.png"])
def test_two_digits_in_a_picture_are_noticed(name: str):
    ink = uploads.ink_from_picture((CASES / "pictures" / name).read_bytes())
    assert oddities.oddity(preprocess.prepare(ink), ink) == "several"


@pytest.mark.parametrize("pen", [12, 20, 28])
@pytest.mark.parametrize("digit", DIGITS)
def test_one_digit_is_not_odd(digit: int, pen: int):
    assert oddities.oddity(drawn(DIGITS[digit], pen)) is None


def test_detached_strokes_are_one_digit():
    floating_cap = [line((0.45, 0.15), (0.75, 0.12)), DIGITS[5][0]]
    broken_four = [line((0.37, 0.20), (0.30, 0.55), (0.52, 0.54)), line((0.66, 0.20), (0.62, 0.84))]
    for strokes in (floating_cap, broken_four):
        assert oddities.oddity(drawn(strokes, 12)) is None


def test_real_digits_are_hardly_ever_odd(sample: Mnist):
    found = [oddities.oddity(image) for image in sample.train.images.numpy()[::4]]
    assert len(found) == 1000 and sum(map(bool, found)) < 0.005 * len(found)


# -- blots and ruled paper ------------------------------------------------------------------


@pytest.mark.parametrize("flat", [1.0, 1.3, 1.8])
@pytest.mark.parametrize("radius", [30, 100])
def test_blot_is_noticed(radius: float, flat: float):
    assert oddities.oddity(preprocess.prepare(disc(radius, flat))) == "blot"


@pytest.mark.parametrize("tilt", [0, 0.03, -0.08])
@pytest.mark.parametrize("pitch", [40, 70])
def test_ruled_paper_is_noticed(pitch: int, tilt: float):
    y, x = np.mgrid[:280, :280]
    lines = 0.8 * (np.rint(y + tilt * x) % pitch < 3)
    ink = picture(np.maximum(preprocess.ink_from_canvas(render(DIGITS[7])), lines))
    assert oddities.oddity(preprocess.prepare(ink), ink) == "lines"


def test_digits_on_plain_paper_have_no_lines(sample: Mnist):
    digits = [*sample.train.images.numpy()[::40] / 255]
    digits += [
        preprocess.ink_from_canvas(render(strokes, 280, pen))
        for strokes in DIGITS.values()
        for pen in (8, 28)
    ]
    assert not any(oddities.has_lines(picture(ink)) for ink in digits)
    assert not oddities.has_lines(np.zeros((20, 20), np.float32))


def test_one_thick_line_is_not_ruled_paper():
    assert not oddities.has_lines(picture(preprocess.ink_from_canvas(render(SCRIBBLES["fence"]))))


# -- what is said -----------------------------------------------------------------------------


def test_oddity_is_said_before_unfamiliarity():
    several, seven = drawn(SEVERAL["10"]), drawn(DIGITS[7])
    assert doubts.not_one_digit(several, False) == oddities.WARNINGS["several"]
    assert doubts.not_one_digit(seven, False) == oddities.WARNINGS["unfamiliar"]
    assert doubts.not_one_digit(seven, True) is None


def logits(digit: int, share: float) -> torch.Tensor:
    """Return logits that give one digit this probability."""
    rest = torch.full((10,), (1 - share) / 9)
    rest[digit] = share
    return rest.log()


@pytest.mark.parametrize(
    "student, share, flagged", [(3, 0.91, True), (3, 0.89, False), (8, 0.99, False)], ids=str
)
def test_sure_student_that_contradicts_is_flagged(student: int, share: float, flagged: bool):
    said = doubts.contradiction({"teacher": logits(8, 0.6), "student": logits(student, share)})
    assert (said is not None) == flagged
    if said:
        assert "91% sure that it is 3, but its teacher sees 8" in said


def test_teacher_alone_contradicts_nobody():
    assert doubts.contradiction({"teacher": logits(8, 0.6)}) is None
    assert doubts.contradiction({"student": logits(8, 0.99)}) is None


def test_contradiction_travels_with_the_live_answers():
    """The browser fetches these figures again while the student learns, and the warning with them."""
    said = {"teacher": logits(8, 0.6), "student": logits(3, 0.95), "control": logits(8, 0.5)}
    together, apart = (answers._charts(said, 1.0, alone, {}) for alone in (False, True))
    expected = doubts.contradiction(said)
    assert expected and together["chart_answers"][0]["doubt"] == expected
    assert {name: figure["doubt"] for name, (figure, _) in apart.items()} == {
        "draw_teacher": None,
        "draw_student": expected,
        "draw_control": None,
    }


# -- the test of familiarity as a network ------------------------------------------------------


@pytest.mark.parametrize("name", ["cnn-tiny", "mlp-30", "vit-half"])
def test_familiarity_as_a_network_gives_its_distances(sample: Mnist, name: str):
    familiar = familiarity.Familiar(registry.build(name, 0).eval(), sample.train.take(slice(None, None, 4)))
    inputs = sample.validation.take(slice(0, 100)).inputs()
    with torch.inference_mode():
        found = familiar.network()(inputs)
    torch.testing.assert_close(found, familiar.distance(inputs) / familiar.limit, rtol=1e-3, atol=1e-4)
