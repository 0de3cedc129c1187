"""Test the views of images as others write them, and the habits that they are drawn with."""

import itertools

import numpy as np
import pytest
import torch

from kd.config.distil import DistilConfig
from kd.data import augmentation, habits, handwriting
from kd.data.digits import Digits
from kd.errors import UserError
from kd.teachers.cached import CachedTeacher
from tests.helpers import small_teacher

ALL = [*habits.TRAINED, *habits.HELD_OUT]
named = pytest.mark.parametrize("habit", ALL, ids=lambda habit: f"{habit.digit} {habit.name}")


def numbers(count, columns=128, view=0):
    ids = torch.arange(count)
    return handwriting.uniform(ids, torch.full_like(ids, view), columns)


def stroke_image(*strokes):
    """Return an image with straight lines from (x, y) to (x, y), in pixels, (28, 28) uint8."""
    points = [
        torch.lerp(torch.tensor(a), torch.tensor(b), t) for a, b in strokes for t in np.linspace(0, 1, 60)
    ]
    return handwriting.ink(torch.stack(points)[None].float(), torch.tensor([2.5]))[0]


RING = [
    ((14 + 6 * np.cos(a), 14 + 9 * np.sin(a)), (14 + 6 * np.cos(b), 14 + 9 * np.sin(b)))
    for a, b in itertools.pairwise(np.linspace(0, 2 * np.pi, 25))
]
PICTURES = {
    0: RING,
    1: [((14.0, 5.0), (14.0, 23.0))],
    7: [((8.0, 5.0), (20.0, 5.0)), ((20.0, 5.0), (12.0, 23.0))],
}


def test_random_numbers_are_uniform_and_independent():
    table = numbers(20_000, 8)
    assert table.min() >= 0 and table.max() < 1
    assert torch.allclose(table.mean(0), torch.tensor(0.5), atol=0.01)
    assert torch.allclose(table.var(0), torch.tensor(1 / 12), atol=0.003)
    others = torch.cat([table, numbers(20_000, 8, view=1), table.roll(1, 0)], 1)
    between = torch.corrcoef(others.T) - torch.eye(24)
    assert between.abs().max() < 0.03


def test_random_numbers_depend_on_image_view_and_stream_alone():
    ids, views = torch.tensor([5, 9, 5]), torch.tensor([0, 0, 1])
    table = handwriting.uniform(ids, views, 4)
    assert torch.equal(handwriting.uniform(ids.flip(0), views.flip(0), 4), table.flip(0))
    assert not torch.equal(handwriting.uniform(ids, views, 4, stream=1), table)
    assert len(table.unique()) == 12
    # The same on every machine.
    assert table[0].tolist() == pytest.approx([0.513294, 0.70732, 0.936757, 0.31404], abs=1e-6)


@named
def test_habit_fits_the_tables(habit):
    assert habit.other is None or [len(s) for s in habit.other] == [len(s) for s in habit.strokes]
    points = sum(len(list(itertools.groupby(stroke))) for stroke in habit.strokes)
    assert points <= handwriting.CONTROLS and len(habit.strokes) <= 4 and 0 <= habit.digit <= 9


def test_habits_have_names_of_their_own_and_some_are_held_out():
    names = [(habit.digit, habit.name) for habit in ALL]
    assert len(set(names)) == len(names)
    for group in (habits.TRAINED, habits.HELD_OUT):
        assert {habit.digit for habit in group} == set(range(10))


@named
def test_curve_passes_through_the_control_points(habit):
    book = handwriting.Book([habit])
    points = book.curves[0] @ book.controls[0]
    for x, y in {point for stroke in habit.strokes for point in stroke}:
        assert (points - torch.tensor([x, y])).norm(dim=1).min() < 0.6


def test_drawings_have_the_size_and_place_of_mnist():
    book = handwriting.trained()
    images = handwriting.draw(book, torch.arange(len(book.habits)).repeat(20), numbers(20 * len(book.habits)))
    ink = images > 40
    high, wide = ink.any(2).sum(1), ink.any(1).sum(1)
    longest = torch.maximum(high, wide)
    assert longest.min() >= 19 and longest.max() <= 22
    assert (images.amax((1, 2)) > 200).all()
    axis = torch.arange(28.0)
    centre = (images.sum(1) * axis).sum(1) / images.sum((1, 2))
    assert (centre - 13.5).abs().max() < 4 and abs(centre.mean() - 13.5) < 0.3


def test_ink_is_a_disc_around_each_point():
    image = handwriting.ink(torch.tensor([[[13.0, 9.0]]]), torch.tensor([3.0]))[0].float() / 255
    y, x = np.mgrid[:28, :28]
    expected = np.clip(2.0 - np.hypot(x - 13, y - 9), 0, 1)
    assert np.abs(image.numpy() - expected).max() <= 1 / 255


@pytest.mark.parametrize("digit", [0, 1, 7])
def test_habit_is_added_to_some_zeros_ones_and_sevens(digit):
    images = stroke_image(*PICTURES[digit]).repeat(400, 1, 1)
    result = handwriting.with_habit(images, torch.full((400,), digit), numbers(400, 16))
    changed = (result != images).flatten(1).any(1)
    assert changed.float().mean() == pytest.approx(handwriting.ADDED, abs=0.08)
    assert (result >= images).all(), "a habit adds ink and takes none away"


def test_no_habit_is_added_to_other_digits():
    images = stroke_image(*PICTURES[1]).repeat(100, 1, 1)
    for digit in (2, 3, 4, 5, 6, 8, 9):
        result = handwriting.with_habit(images, torch.full((100,), digit), numbers(100, 16))
        assert torch.equal(result, images)


def test_views_differ_and_are_the_same_in_any_batch():
    images = stroke_image(*PICTURES[7]).repeat(60, 1, 1)
    digits, ids = torch.full((60,), 7), torch.arange(60)
    views = ids % 4
    together = handwriting.view(images, digits, ids, views)
    order = torch.randperm(60)
    mixed = handwriting.view(images[order], digits[order], ids[order], views[order])
    assert torch.equal(mixed, together[order])
    assert len({image.numpy().tobytes() for image in together}) > 25
    same = (together == images).flatten(1).all(1)
    assert same.float().mean() == pytest.approx(handwriting.SAME, abs=0.15)


def test_augmentation_records_the_view():
    digits = Digits(
        stroke_image(*PICTURES[0]).repeat(50, 1, 1), torch.zeros(50).long(), torch.arange(50), "train"
    )
    seen = augmentation.handwriting(digits, torch.Generator().manual_seed(0))
    assert seen.augmentation == "handwriting" and set(seen.views.tolist()) == {0, 1, 2, 3}
    again = augmentation.view(digits, "handwriting", seen.views)
    assert torch.equal(again.images, seen.images) and seen.file == "train"
    new = augmentation.new_handwriting(digits, torch.Generator().manual_seed(0))
    assert new.file == "" and new.views is None, "nothing may be cached for new views"


def test_cached_logits_of_views_are_those_of_the_live_teacher(digits):
    teacher = small_teacher()
    seen = augmentation.handwriting(digits, torch.Generator().manual_seed(1))
    live = teacher.model(seen.inputs())
    for _ in range(2):
        assert torch.allclose(teacher.logits(seen), live, atol=1e-4)
    plain = teacher.logits(digits)
    assert torch.allclose(plain, teacher.model(digits.inputs()), atol=1e-4), "tables must not mix"


def test_logits_of_views_survive_the_disk_in_half_precision(digits, tmp_path):
    teacher = small_teacher()
    path = tmp_path / "views.safetensors"
    teacher.save_views(path, [digits], "handwriting")
    again = CachedTeacher("small", teacher.architecture, teacher.model, {"handwriting": path})
    seen = augmentation.handwriting(digits, torch.Generator().manual_seed(1))
    read, live = again.logits(seen), teacher.logits(seen)
    assert torch.allclose(read, live, atol=2e-2)
    assert path.stat().st_size < 5e6


@pytest.mark.parametrize("augmentation", ["handwriting", "new-handwriting"])
@pytest.mark.parametrize("labels", [{"labels": 100}, {"label_noise": 0.2}])
def test_handwriting_needs_all_labels_and_right_ones(augmentation, labels):
    with pytest.raises(UserError, match="needs all labels"):
        DistilConfig(augmentation=augmentation, **labels)
    assert DistilConfig(augmentation=augmentation).augmentation == augmentation
