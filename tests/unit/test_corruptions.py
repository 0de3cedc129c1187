"""Corrupted test digits: unchanged at severity 0, and what each corruption does at higher ones."""

import pytest
import torch

from kd.config.distil import DistilConfig
from kd.data import digits
from kd.experiments.distil import Distillation
from kd.lab.corruptions import CORRUPTIONS, blurred, noisy, rotated, shifted, thickened
from kd.models import inference
from kd.teachers import catalogue


@pytest.fixture
def images(sample):
    return sample.test.images[::50]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruption_grows_with_severity(images, name):
    corruption = CORRUPTIONS[name]
    assert corruption.levels[0] == 0 and torch.equal(corruption.apply(images, 0), images)
    apart = []
    for level in corruption.levels:
        spoiled = corruption.apply(images, level)
        assert spoiled.shape == images.shape and spoiled.dtype == torch.uint8
        assert torch.equal(spoiled, corruption.apply(images, level))
        apart.append((spoiled.float() - images.float()).abs().mean().item())
    assert apart == sorted(set(apart))


def test_quarter_turn_is_exact():
    square = torch.arange(28 * 28).remainder(251).to(torch.uint8).view(1, 28, 28)
    assert torch.equal(rotated(square, 90), square.rot90(1, (1, 2)))


def test_shifts_cycle_through_four_directions():
    dot = torch.zeros(4, 28, 28, dtype=torch.uint8)
    dot[:, 10, 10] = 255
    places = [tuple(image.nonzero()[0].tolist()) for image in shifted(dot, 3)]
    assert places == [(10, 7), (10, 13), (7, 10), (13, 10)]


def test_thickening_adds_the_given_pixels():
    line = torch.zeros(1, 28, 28, dtype=torch.uint8)
    line[:, 5:20, 14] = 200
    assert (thickened(line, 2)[0, 12] == 200).sum() == 3


def test_blur_keeps_ink_and_noise_has_its_deviation():
    dot = torch.zeros(1, 28, 28, dtype=torch.uint8)
    dot[:, 12:16, 12:16] = 255
    assert blurred(dot, 1).sum().item() == pytest.approx(dot.sum().item(), rel=0.02)
    grey = torch.full((50, 28, 28), 128, dtype=torch.uint8)
    assert noisy(grey, 10).float().std().item() == pytest.approx(25.5, rel=0.02)


@pytest.fixture(scope="module")
def read(sample):
    """Accuracy of teacher, student and control on corrupted test digits, trained on 4,000 images."""
    cnn = catalogue.load("cnn")
    run = Distillation(DistilConfig(epochs=10, batch_size=64), sample, cnn)
    for _ in run.records():
        pass
    networks = {"teacher": cnn.model, **run.trained}

    def accuracies(name: str, level: float) -> dict[str, float]:
        inputs = digits.normalize(CORRUPTIONS[name].apply(sample.test.images, level))
        result = {}
        for role, model in networks.items():
            predictions = inference.logits_in_chunks(model, inputs, 512).argmax(1)
            result[role] = (predictions == sample.test.labels).float().mean().item()
        return result

    return accuracies


def test_teacher_stays_ahead_on_rotated_digits(read):
    found = read("rotated", 45)
    assert found["teacher"] > max(found["student"], found["control"]) + 0.15, found


@pytest.mark.parametrize("name, level", [("blurred", 3), ("noisy", 75)])
def test_teacher_fails_first_under_blur_and_noise(read, name, level):
    found = read(name, level)
    assert found["teacher"] < min(found["student"], found["control"]) - 0.05, found


def test_student_does_not_inherit_robustness_to_rotation(read):
    clean, turned = read("rotated", 0), read("rotated", 45)
    behind = {role: turned["teacher"] - turned[role] for role in ("student", "control")}
    assert clean["teacher"] - clean["student"] < 0.06, (clean, turned)
    assert abs(behind["student"] - behind["control"]) < behind["control"] / 2, (clean, turned)
