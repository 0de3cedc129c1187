"""The teacher's soft targets for an image and for a class."""

import io
import math

import numpy as np
import plotly.graph_objects as go
import pytest
import torch
from PIL import Image

from kd.figures import lab
from kd.lab import pictures, soft_targets
from kd.teachers import catalogue

#: Four images of a 2 and one of a 3; the second 2 is nearly a 3, the third a little like a 7.
LABELS = torch.tensor([2, 2, 2, 2, 3])
LOGITS = torch.zeros(5, 10)
LOGITS[[0, 1, 2, 3, 4], LABELS] = 9.0
LOGITS[1, 3], LOGITS[2, 7], LOGITS[3, 3] = 8.0, 5.0, 2.0


def test_soft_targets_are_softmax_at_temperature():
    powers = np.exp(np.array([1.0, 4.0, -2.0]) / 4)
    assert soft_targets.soft_targets(torch.tensor([1.0, 4.0, -2.0]), 4.0).tolist() == pytest.approx(
        (powers / powers.sum()).tolist()
    )


def test_entropy_of_a_label_is_0_and_of_uniform_is_log2_10():
    assert soft_targets.entropy(torch.eye(10, dtype=torch.float64)).tolist() == [0.0] * 10
    assert soft_targets.entropy(torch.full((10,), 0.1, dtype=torch.float64)).item() == pytest.approx(
        math.log2(10)
    )
    assert soft_targets.entropy(torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)).item() == pytest.approx(
        1.5
    )


def test_entropy_grows_with_the_temperature(sample):
    logits = catalogue.load("cnn").logits(sample.validation.take(slice(0, None, 10)))
    bits = torch.stack([soft_targets.entropy(soft_targets.soft_targets(logits, t)) for t in (1, 2, 4, 8, 20)])
    assert (bits.diff(dim=0) > 0).all()


def test_most_like_orders_images_by_probability():
    places, shares = soft_targets.most_like(LOGITS, LABELS, 2, 3, 1.0, 3)
    assert places.tolist()[:2] == [1, 3]  # the image of a 3 itself is not among them
    assert shares[0].item() == pytest.approx(math.exp(8) / (math.exp(9) + math.exp(8) + 8))


def test_look_alikes_finds_the_closest_image_per_class():
    found = soft_targets.look_alikes(LOGITS, LABELS, 2, 1.0)
    assert set(found) == set(range(10)) - {2}
    assert found[3][0] == 1 and found[7][0] == 2


def test_class_averages_are_means_over_one_class():
    averages = soft_targets.class_averages(LOGITS, LABELS, 5.0)
    twos = [soft_targets.soft_targets(row, 5.0) for row in LOGITS[:4]]
    assert averages[2].tolist() == pytest.approx((sum(twos) / 4).tolist())
    assert averages[3].sum().item() == pytest.approx(1) and averages[0].isnan().all()


def test_most_doubtful_image_lies_between_two_digits():
    assert soft_targets.most_doubtful(LOGITS, 2).tolist() == [1, 2]


def test_teacher_finds_a_4_more_like_a_9_than_a_0(sample):
    """Check the page's claim with the shipped teacher: soft targets show which digits are similar."""
    averages = soft_targets.class_averages(
        catalogue.load("cnn").logits(sample.validation), sample.validation.labels, 4.0
    )
    for digit, like, unlike in [(4, 9, 0), (3, 5, 6), (1, 7, 3)]:
        assert averages[digit, like] > 3 * averages[digit, unlike]


def test_plotly_accepts_soft_target_figures():
    go.Figure(lab.entropy_curve(LOGITS[1], 4.0))
    figure = go.Figure(lab.class_heat_map(soft_targets.class_averages(LOGITS, LABELS, 4.0)))
    colours, diagonal = figure.data
    assert colours.z[2][2] is None and colours.z[2][3] > 0  # the diagonal is written instead
    assert diagonal.text[2][2].endswith("%") and diagonal.text[0][0] == ""  # no image of a 0


def test_sheet_places_each_image():
    images = torch.arange(3, dtype=torch.uint8)[:, None, None].expand(3, 28, 28) * 100
    page = np.asarray(
        Image.open(io.BytesIO(pictures.png(pictures.sheet(images, columns=2, between=128).numpy())))
    )
    assert page.shape == (28 * 2 + pictures.GAP, 28 * 2 + pictures.GAP)
    assert (
        page[0, 0] == 0 and page[0, -1] == 100 and page[-1, 0] == 200 and page[0, 28] == page[-1, -1] == 128
    )
