"""Spoiled test digits: nothing at severity 0, and what each does at another."""

import pytest
import torch

from kd.config.distil import DistilConfig
from kd.data import digits
from kd.experiments.base import Distillation
from kd.lab.corruptions import CORRUPTIONS, blurred, noisy, rotated, shifted, thickened
from kd.models import inference
from kd.teachers import catalogue


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


@pytest.fixture(scope="module")
def read(sample):
    """The share of spoiled test digits that teacher, student and control read right, at small scale: 4,000 images to learn from."""
    cnn = catalogue.load("cnn")
    run = Distillation(DistilConfig(epochs=10, batch_size=64), sample, cnn)
    for _ in run.records():
        pass
    networks = {"teacher": cnn.model, **run.trained}

    def share(name: str, level: float) -> dict[str, float]:
        inputs = digits.normalize(CORRUPTIONS[name].apply(sample.test.images, level))
        said = {who: inference.logits_in_chunks(model, inputs, 512) for who, model in networks.items()}
        return {
            who: (logits.argmax(1) == sample.test.labels).float().mean().item()
            for who, logits in said.items()
        }

    return share


def test_the_teacher_stays_far_ahead_of_both_when_digits_are_turned(read):
    found = read("rotated", 45)
    assert found["teacher"] > max(found["student"], found["control"]) + 0.15, found


@pytest.mark.parametrize("name, level", [("blurred", 3), ("noisy", 75)])
def test_the_teacher_falls_apart_before_both_under_blur_and_noise(read, name, level):
    found = read(name, level)
    assert found["teacher"] < min(found["student"], found["control"]) - 0.05, found


def test_a_student_of_clean_digits_hardly_learns_what_its_teacher_says_about_others(read):
    clean, turned = read("rotated", 0), read("rotated", 45)
    behind = {who: turned["teacher"] - turned[who] for who in ("student", "control")}
    assert (
        clean["teacher"] - clean["student"] < 0.06
        and abs(behind["student"] - behind["control"]) < behind["control"] / 2
    ), (clean, turned)
