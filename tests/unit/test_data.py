"""Test the parts of MNIST, normalization and the folders from the environment."""

from dataclasses import replace

import pytest
import torch

from kd import paths
from kd.data import sources
from kd.data.digits import normalize
from kd.device import training_device


def test_validation_ids_index_5000_training_images():
    ids = sources.validation_ids()
    assert len(ids) == len(ids.unique()) == 5000 and ids.min() >= 0 and ids.max() < 60_000


def test_sample_has_equal_classes_and_separate_parts(sample):
    assert sample.source == "sample"
    assert sample.train.labels.bincount().tolist() == [400] * 10
    assert sample.test.labels.bincount().tolist() == [100] * 10
    assert sample.validation is sample.test is sample.glance
    assert not set(sample.train.ids.tolist()) & set(sample.test.ids.tolist())
    assert set(sample.train.ids.tolist()) | set(sample.test.ids.tolist()) == set(
        sources.validation_ids().tolist()
    )


def test_digits_have_the_documented_types(sample):
    digits = sample.train
    assert digits.images.shape == (4000, 28, 28) and digits.images.dtype == torch.uint8
    assert digits.labels.dtype == digits.ids.dtype == torch.int64
    assert digits.inputs().shape == (4000, 1, 28, 28) and digits.inputs().dtype == torch.float32
    taken = digits.take(torch.tensor([5, 2]))
    assert taken.ids.tolist() == digits.ids[[5, 2]].tolist() and torch.equal(
        taken.images[1], digits.images[2]
    )


def test_full_set_has_three_parts_without_overlap(full_mnist):
    assert [len(part) for part in (full_mnist.train, full_mnist.validation, full_mnist.test)] == [
        55_000,
        5_000,
        10_000,
    ]
    ids = torch.cat([full_mnist.train.ids, full_mnist.validation.ids])
    assert torch.equal(ids.sort().values, torch.arange(60_000))
    assert {full_mnist.train.file, full_mnist.validation.file} == {"train"} and full_mnist.test.file == "test"


def test_sample_equals_the_full_sets_validation_images(full_mnist, sample):
    judged = torch.arange(5000) % 5 == 0
    for part, place in ((sample.test, judged), (sample.train, ~judged)):
        for name in ("images", "labels", "ids"):
            assert torch.equal(getattr(part, name), getattr(full_mnist.validation, name)[place])


def test_glance_is_100_validation_images_of_each_class(full_mnist):
    assert full_mnist.glance.labels.bincount().tolist() == [100] * 10
    assert set(full_mnist.glance.ids.tolist()) <= set(full_mnist.validation.ids.tolist())


def test_normalized_training_pixels_have_mean_0_and_deviation_1(full_mnist):
    inputs = torch.cat([full_mnist.train.inputs(), full_mnist.validation.inputs()]).double()
    assert inputs.mean().item() == pytest.approx(0, abs=1e-3) and inputs.std().item() == pytest.approx(
        1, abs=1e-3
    )


def test_normalize_follows_its_formula():
    pixels = torch.arange(256, dtype=torch.uint8).repeat(4)[:784].view(1, 28, 28)
    expected = (pixels.double() / 255 - 0.1307) / 0.3081
    torch.testing.assert_close(normalize(pixels)[0].double(), expected, rtol=1e-5, atol=1e-6)


def test_digest_changes_with_the_data(mnist):
    assert mnist.digest == replace(mnist).digest
    changed = replace(mnist, test=replace(mnist.test, labels=(mnist.test.labels + 1) % 10))
    assert changed.digest != mnist.digest


def test_folders_come_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("KD_DATA_DIR", str(tmp_path / "here"))
    assert paths.data_folder() == tmp_path / "here"
    monkeypatch.delenv("KD_DATA_DIR")
    assert paths.data_folder() == paths.cache_folder() / "data"
    monkeypatch.setenv("KD_DEVICE", "cpu")
    assert training_device() == torch.device("cpu")
