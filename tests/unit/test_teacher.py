"""Teachers: cached logits equal live ones in any order and are kept on disk."""

import dataclasses

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from kd.data import sources
from kd.data.augmentation import affine, jitter
from kd.data.digits import Digits
from kd.data.task import MNIST
from kd.models import inference, registry
from kd.objectives import soft_loss
from kd.objectives.feature_matching import View
from kd.teachers.cached import CachedTeacher
from tests.helpers import identical, small_teacher, weights
from tests.teachers import Counted, close, live

# -- the cache -----------------------------------------------------------------------------


def test_cached_logits_equal_live_logits_in_any_order(digits):
    cached, random = small_teacher("cnn-tiny"), torch.Generator().manual_seed(0)
    for size in (1, 7, 64, 100, 333, 1000):
        batch = digits.take(torch.randperm(len(digits), generator=random)[:size])
        assert close(cached.logits(batch), live(cached, batch))


def test_image_may_appear_several_times_in_a_batch(digits):
    cached = small_teacher()
    batch = digits.take(torch.tensor([3, 3, 9, 3]))
    logits = cached.logits(batch)
    assert close(logits, live(cached, batch)) and torch.equal(logits[0], logits[3])


@pytest.mark.parametrize("architecture", ["cnn-tiny", "cnn", "cnn-separable", "vit", "mlp-30", "mlp-31-17"])
def test_logits_of_an_image_do_not_depend_on_its_batch(digits, architecture):
    few = digits.take(slice(0, 150))
    together, one_by_one, backwards = (small_teacher(architecture) for _ in range(3))
    for start in (0, 1, 2, 5, 40, 99):
        one_by_one.logits(few.take(slice(start, start + 1)))
    backwards.logits(few.take(torch.arange(77, -1, -1)))
    assert torch.equal(together.logits(few), one_by_one.logits(few))
    assert torch.equal(together.logits(few), backwards.logits(few))


def test_each_image_is_computed_once(digits):
    cached = small_teacher("mlp-32")
    counted = Counted(cached)
    cached.logits(digits.take(slice(0, 128)))
    assert counted.images == 128
    cached.logits(digits.take(torch.arange(127, -1, -1)))
    assert counted.images == 128, "cached logits were computed again"
    cached.logits(digits.take(slice(64, 192)))
    assert counted.images == 192, "only the unknown half may be computed"


def test_logits_are_looked_up_by_image_id(digits):
    cached = small_teacher()
    known = cached.logits(digits.take(slice(0, 10)))
    renamed = dataclasses.replace(digits.take(slice(50, 60)), ids=digits.ids[:10])
    assert torch.equal(cached.logits(renamed), known)
    order = torch.tensor([4, 1, 8])
    assert torch.equal(cached.logits(digits.take(order)), known[order])


def test_training_and_test_images_with_equal_ids_are_distinct(digits):
    cached = small_teacher()
    train, test = (
        digits.take(slice(0, 5)),
        dataclasses.replace(digits.take(slice(5, 10)), ids=digits.ids[:5], file="test"),
    )
    assert close(cached.logits(train), live(cached, train))
    assert close(cached.logits(test), live(cached, test))


# -- several data sets ---------------------------------------------------------------------


def other_images(mnist):
    """Return data with the ids of ``mnist`` and other images."""
    parts = {
        name: dataclasses.replace(part, images=255 - part.images, data="")
        for name in ("train", "validation", "test")
        for part in [getattr(mnist, name)]
    }
    return dataclasses.replace(mnist, **parts)


def test_data_sets_with_equal_ids_have_their_own_logits(mnist):
    cached, other = small_teacher(), other_images(mnist)
    for data in (mnist, other, mnist):
        for part in (data.train, data.validation):
            assert close(cached.logits(part), live(cached, part))
    assert not close(cached.logits(mnist.train), cached.logits(other.train), 0.1)


def test_shifted_images_of_data_sets_have_their_own_logits(mnist):
    cached = small_teacher()
    for data in (mnist, other_images(mnist)):
        shifted = jitter(data.train.take(slice(0, 20)), torch.Generator().manual_seed(0))
        assert close(cached.logits(shifted), live(cached, shifted))


def test_features_of_data_sets_are_kept_apart(mnist):
    cached, view = small_teacher("mlp-30"), View((0,), (1,))
    for data in (mnist, other_images(mnist), mnist):
        digits = data.train.take(slice(0, 20))
        found, own = cached.outputs(digits, view), inference.outputs(cached.model, digits.inputs())
        assert close(found.logits, own.logits) and close(found.features[0], own.features[0], 0.02)


def test_logits_on_disk_belong_to_their_data_set(mnist, cache):
    first, other = small_teacher("mlp-32"), other_images(mnist)
    for data in (mnist, other):
        first.logits(data.train)
    first.keep()
    assert len(list((cache / "logits").iterdir())) == 2
    again = small_teacher("mlp-32")
    counted = Counted(again)
    for data in (other, mnist):
        assert torch.equal(again.logits(data.train), first.logits(data.train))
    assert counted.images == 0


def test_few_data_sets_stay_in_memory(mnist, monkeypatch):
    monkeypatch.setattr("kd.teachers.cached.MAX_DATA", 1)
    cached, other = small_teacher("mlp-32"), other_images(mnist)
    counted = Counted(cached)
    for data in (mnist, other):
        cached.logits(data.train)
    images = counted.images
    assert close(cached.logits(mnist.train), live(small_teacher("mlp-32"), mnist.train))
    assert counted.images == images, "the first data set's logits were kept on disk"


def test_images_outside_a_data_set_are_computed_each_time(digits):
    cached = small_teacher()
    alone = Digits(digits.images[:5], digits.labels[:5], digits.ids[:5], "train")
    inverted = dataclasses.replace(alone, images=255 - alone.images)
    for images in (alone, inverted):
        assert close(cached.logits(images), live(cached, images))


def test_data_set_is_the_same_on_another_day(mnist):
    one, other = other_images(mnist), other_images(mnist)
    assert one.train.data == one.validation.data == other.train.data != mnist.train.data
    assert one.train.take(slice(0, 3)).data == one.train.data
    assert mnist.train.data == sources.FILES["train-images-idx3-ubyte"][2]


# -- views ---------------------------------------------------------------------------------


def test_shifted_image_is_computed_once_per_shift(digits):
    cached, random = small_teacher("mlp-32"), torch.Generator().manual_seed(0)
    counted = Counted(cached)
    plain = digits.take(slice(0, 64))
    views = [jitter(plain, random) for _ in range(3)]
    for view in views:
        assert close(cached.logits(view), live(cached, view))
    assert not close(cached.logits(views[0]), cached.logits(plain), 0.1)
    before = counted.images
    order = torch.randperm(64, generator=random)
    assert close(cached.logits(views[1].take(order)), cached.logits(views[1])[order])
    assert counted.images == before, "a known view was computed again"


def test_views_do_not_change_logits_of_the_original_images(digits, home):
    cached, other = small_teacher(), small_teacher()
    cached.logits(jitter(digits, torch.Generator().manual_seed(0)))
    assert torch.equal(cached.logits(digits), other.logits(digits))
    cached.keep()
    assert torch.equal(small_teacher().logits(digits), other.logits(digits)), (
        "only logits of the original images may be kept"
    )


def test_images_in_no_file_are_computed_each_time(digits):
    cached = small_teacher()
    for seed in range(2):
        distorted = affine(digits.take(slice(0, 20)), torch.Generator().manual_seed(seed))
        assert close(cached.logits(distorted), live(cached, distorted))


def test_loss_can_use_cached_logits(digits):
    student = torch.zeros(20, 10, requires_grad=True)
    soft_loss(student, small_teacher().logits(digits.take(slice(0, 20))), 4.0).backward()
    assert student.grad.abs().sum() > 0


def test_teacher_never_changes_and_needs_no_gradients(digits):
    model = registry.build("cnn", 0).train()
    before = weights(model)
    cached = CachedTeacher("mine", "cnn", model)
    counted = Counted(cached)
    cached.logits(digits.take(slice(0, 100)))
    cached.accuracy(digits.take(slice(0, 150)))
    assert (
        counted.images >= 150
        and counted.modes == {False}
        and not any(module.training for module in model.modules())
    )
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert identical(before, model)


def test_accuracy_is_the_share_that_is_right(digits):
    cached = small_teacher()
    right = (live(cached, digits).argmax(1) == digits.labels).sum().item()
    assert cached.accuracy(digits) == pytest.approx(right / len(digits))


# -- cache on disk -------------------------------------------------------------------------


def kept_file(cache):
    (found,) = (cache / "logits").iterdir()
    return found


def test_computed_logits_are_kept_for_the_next_start(digits, cache):
    first = small_teacher("mlp-32")
    logits = first.logits(digits)
    first.keep()
    again = small_teacher("mlp-32")
    counted = Counted(again)
    assert torch.equal(again.logits(digits), logits) and counted.images == 0
    again.keep()
    assert kept_file(cache).suffix == ".safetensors"


def test_cache_writes_no_file_without_new_logits(digits, cache):
    small_teacher().keep()
    assert not cache.exists()


def test_partly_filled_cache_is_completed(digits):
    first = small_teacher("mlp-32")
    first.logits(digits.take(slice(0, 640)))
    first.keep()
    again = small_teacher("mlp-32")
    counted = Counted(again)
    assert close(again.logits(digits), live(small_teacher("mlp-32"), digits))
    assert counted.images == 384, "360 unknown images in six full chunks"


def test_file_of_another_teacher_is_not_used(digits, cache):
    other, cached = small_teacher(seed=1), small_teacher(seed=2)
    other.logits(digits)
    other.keep()
    content = kept_file(cache).read_bytes()
    kept_file(cache).unlink()
    cached.logits(digits)
    cached.keep()
    kept_file(cache).write_bytes(content)
    again = small_teacher(seed=2)
    assert close(again.logits(digits), live(again, digits))


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1000])


def garble(path):
    path.write_bytes(b"\xff" * 5000)


def empty(path):
    path.write_bytes(b"")


def rewritten(change):
    """Return damage that leaves a valid safetensors file of the same teacher and data."""

    def damage(path):
        with safe_open(path, "pt") as file:
            about = file.metadata()
        save_file(change(load_file(path)), path, about)

    damage.__name__ = change.__name__
    return damage


def other_shape(tables):
    return {name: table[:100] for name, table in tables.items()}


def other_type(tables):
    return {name: table.double() for name, table in tables.items()}


def without_train(tables):
    return {"test": tables["train"]}


def other_value(tables):
    tables["train"].nan_to_num_()[7, 3] += 2.0
    return tables


def not_finite(tables):
    tables["train"][:2000] = torch.nan
    tables["train"][2000:, 4] = torch.inf
    return tables


DAMAGES = [
    truncate,
    garble,
    empty,
    *map(rewritten, [other_shape, other_type, without_train, not_finite, other_value]),
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damaged_file_is_ignored(digits, cache, damage):
    first = small_teacher()
    first.logits(digits)
    first.keep()
    damage(kept_file(cache))
    again = small_teacher()
    assert close(again.logits(digits), live(again, digits))


def test_logits_that_earlier_versions_kept_are_computed_again(digits, cache):
    first = small_teacher()
    (cache / "logits").mkdir(parents=True)
    old = {name: torch.full((rows, 10), 3.0) for name, rows in MNIST.rows.items()}
    save_file(old, cache / "logits" / f"{first.digest[:32]}.safetensors", {"teacher": first.digest})
    assert close(small_teacher().logits(digits), live(first, digits))


def test_disk_errors_are_tolerated(digits, cache, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("KD_CACHE_DIR", str(tmp_path / "file" / "below"))
    cached = small_teacher()
    cached.logits(digits)
    cached.keep()
    monkeypatch.setenv("KD_CACHE_DIR", str(cache))

    def full(tables, path, metadata):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kd.teachers.cached.save_file", full)
    cached.keep()
    assert list((cache / "logits").iterdir()) == [], "a half-written file was left behind"


def test_shipped_logits_are_preferred_to_cached_ones(digits, tmp_path):
    cached = small_teacher()
    cached.logits(digits)
    cached.keep()
    marked = {name: torch.full((rows, 10), 3.0) for name, rows in MNIST.rows.items()}
    save_file(marked, tmp_path / "shipped.safetensors", {"teacher": cached.digest})
    again = CachedTeacher("small", "mlp-30", cached.model, {"": tmp_path / "shipped.safetensors"})
    assert (again.logits(digits) == 3.0).all()
