"""Test augmentation against a pixel-by-pixel computation."""

import pytest
import torch

from kd.data import augmentation
from kd.data.digits import Digits


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def digits_of(images):
    """Return digits with these images, (N, 28, 28) uint8."""
    count = torch.arange(len(images))
    return Digits(images, count % 10, count, "train")


def noise(count):
    """Return digits of noise: it shows every shift, and what comes in at the border."""
    return digits_of(torch.randint(1, 256, (count, 28, 28), generator=seeded(1), dtype=torch.uint8))


def moved(image, down, right):
    """Return ``image`` moved by whole pixels and filled up with black, computed pixel by pixel."""
    out = torch.zeros_like(image)
    for row in range(28):
        for column in range(28):
            if 0 <= row - down < 28 and 0 <= column - right < 28:
                out[row, column] = image[row - down, column - right]
    return out


def test_jitter_shifts_by_up_to_2_pixels_and_records_it():
    before = noise(300)
    after = augmentation.jitter(before, seeded())
    for image, result, shift in zip(before.images, after.images, after.views):
        assert torch.equal(result, moved(image, *augmentation.SHIFTS[shift]))
    assert set(augmentation.SHIFTS) == {(down, right) for down in range(-2, 3) for right in range(-2, 3)}
    assert len(after.views.unique()) == 25, "all shifts of up to 2 px must be used"
    assert (
        torch.equal(after.ids, before.ids)
        and torch.equal(after.labels, before.labels)
        and after.file == "train"
    )


def test_parts_of_shifted_digits_keep_their_views():
    digits = augmentation.jitter(noise(20), seeded())
    places = torch.tensor([7, 3, 3, 19])
    assert torch.equal(digits.take(places).views, digits.views[places])
    assert torch.equal(digits.take(slice(4, 9)).views, digits.views[4:9])
    assert torch.equal(digits.to(torch.device("cpu")).views, digits.views)


@pytest.mark.parametrize("augment", [augmentation.jitter, augmentation.affine])
def test_black_stays_exactly_black(augment, mnist):
    blank = digits_of(torch.zeros(30, 28, 28, dtype=torch.uint8))
    assert torch.equal(augment(blank, seeded()).images, blank.images)
    assert (augment(mnist.train, seeded()).images == 0).float().mean() > 0.6


@pytest.mark.parametrize("augment", [augmentation.jitter, augmentation.affine])
def test_augmentation_depends_on_its_generator_alone(augment, mnist):
    before = mnist.train.images.clone()
    first = augment(mnist.train, seeded(1)).images
    torch.manual_seed(3)
    assert torch.equal(first, augment(mnist.train, seeded(1)).images)
    assert not torch.equal(first, augment(mnist.train, seeded(2)).images)
    assert (
        torch.equal(mnist.train.images, before)
        and first.shape == before.shape
        and first.dtype == before.dtype
    )


def test_affine_varies_each_image_and_keeps_its_ink(mnist):
    same = mnist.train.images[:1].repeat(200, 1, 1)
    varied = augmentation.affine(digits_of(same), seeded())
    assert len({image.numpy().tobytes() for image in varied.images}) == 200
    ink = varied.images.float().sum((1, 2)) / same[0].float().sum()
    assert 0.6 < ink.min() and ink.max() < 1.6 and 0.9 < ink.mean() < 1.1
    assert varied.file == "", "or its logits would be cached under the original image"


def test_affine_moves_the_centre_by_at_most_2_pixels():
    # A soft spot in the middle: rotating and scaling leave it where it is.
    axis = torch.arange(28) - 13.5
    spot = (255 * torch.exp(-(axis[:, None] ** 2 + axis**2) / 8)).round().to(torch.uint8).repeat(300, 1, 1)
    ink = augmentation.affine(digits_of(spot), seeded()).images.double()
    for sums in (ink.sum(1), ink.sum(2)):  # (N, 28): over columns, over rows
        centre = (sums * axis).sum(1) / sums.sum(1)
        # Shifts come before scaling by up to exp(0.15) and shearing by up to 0.15.
        assert centre.abs().max() < 2 * 1.16 * 1.2 and centre.abs().max() > 1.5


def test_every_augmentation_has_a_name():
    assert augmentation.AUGMENTATIONS == {
        "none": None,
        "jitter": augmentation.jitter,
        "affine": augmentation.affine,
        "handwriting": augmentation.handwriting,
        "new-handwriting": augmentation.new_handwriting,
    }
