"""Spoiled test digits: nothing at severity 0, and what each does at another."""

import pytest
import torch

from kd.lab.corruptions import CORRUPTIONS, blurred, noisy, rotated, shifted, thickened


@pytest.fixture
def images(sample):
    return sample.test.images[::50]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_severity_0_changes_nothing_and_each_next_one_changes_more(images, name):
    corruption = CORRUPTIONS[name]
    assert corruption.levels[0] == 0 and torch.equal(corruption.apply(images, 0), images)
    apart = []
    for level in corruption.levels:
        spoiled = corruption.apply(images, level)
        assert spoiled.shape == images.shape and spoiled.dtype == torch.uint8
        assert torch.equal(spoiled, corruption.apply(images, level))
        apart.append((spoiled.float() - images.float()).abs().mean().item())
    assert apart == sorted(set(apart))


def test_a_quarter_turn_is_exact():
    square = torch.arange(28 * 28).remainder(251).to(torch.uint8).view(1, 28, 28)
    assert torch.equal(rotated(square, 90), square.rot90(1, (1, 2)))


def test_digits_are_shifted_left_right_up_and_down_in_turn():
    dot = torch.zeros(4, 28, 28, dtype=torch.uint8)
    dot[:, 10, 10] = 255
    places = [tuple(image.nonzero()[0].tolist()) for image in shifted(dot, 3)]
    assert places == [(10, 7), (10, 13), (7, 10), (13, 10)]


def test_a_line_gets_wider_by_the_pixels_named():
    line = torch.zeros(1, 28, 28, dtype=torch.uint8)
    line[:, 5:20, 14] = 200
    assert (thickened(line, 2)[0, 12] == 200).sum() == 3


def test_blur_keeps_the_ink_and_noise_has_the_deviation_named():
    dot = torch.zeros(1, 28, 28, dtype=torch.uint8)
    dot[:, 12:16, 12:16] = 255
    assert blurred(dot, 1).sum().item() == pytest.approx(dot.sum().item(), rel=0.02)
    grey = torch.full((50, 28, 28), 128, dtype=torch.uint8)
    assert noisy(grey, 10).float().std().item() == pytest.approx(25.5, rel=0.02)
