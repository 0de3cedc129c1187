"""Teachers: cached logits equal live ones in any order and are kept on disk."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from kd.data.augmentation import affine, jitter
from kd.data.digits import Digits
from kd.data.task import MNIST
from kd.models import registry
from kd.objectives import soft_loss
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


@pytest.mark.parametrize("architecture", ["cnn-tiny", "cnn", "cnn-separable", "vit"])
def test_logits_of_an_image_do_not_depend_on_its_batch(digits, architecture):
    few = digits.take(slice(0, 150))
    together, one_by_one, backwards = (small_teacher(architecture) for _ in range(3))
    for start in (0, 1, 2, 5, 40, 99):
        one_by_one.logits(few.take(slice(start, start + 1)))
    backwards.logits(few.take(torch.arange(77, -1, -1)))
    assert torch.equal(together.logits(few), one_by_one.logits(few))
    assert torch.equal(together.logits(few), backwards.logits(few))


def test_each_image_is_computed_once(digits):
    cached = small_teacher()
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
    renamed = Digits(digits.images[50:60], digits.labels[50:60], digits.ids[:10], "train")
    assert torch.equal(cached.logits(renamed), known)
    order = torch.tensor([4, 1, 8])
    assert torch.equal(cached.logits(digits.take(order)), known[order])


def test_training_and_test_images_with_equal_ids_are_distinct(digits):
    cached = small_teacher()
    train, test = (
        digits.take(slice(0, 5)),
        Digits(digits.images[5:10], digits.labels[5:10], digits.ids[:5], "test"),
    )
    assert close(cached.logits(train), live(cached, train))
    assert close(cached.logits(test), live(cached, test))


# -- views ---------------------------------------------------------------------------------


def test_shifted_image_is_computed_once_per_shift(digits):
    cached, random = small_teacher(), torch.Generator().manual_seed(0)
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
    first = small_teacher()
    logits = first.logits(digits)
    first.keep()
    again = small_teacher()
    counted = Counted(again)
    assert torch.equal(again.logits(digits), logits) and counted.images == 0
    again.keep()
    assert kept_file(cache).name == f"{first.digest[:32]}.safetensors"


def test_cache_writes_no_file_without_new_logits(digits, cache):
    small_teacher().keep()
    assert not cache.exists()


def test_partly_filled_cache_is_completed(digits):
    first = small_teacher()
    first.logits(digits.take(slice(0, 640)))
    first.keep()
    again = small_teacher()
    counted = Counted(again)
    assert close(again.logits(digits), live(small_teacher(), digits))
    assert counted.images == 384, "360 unknown images in six full chunks"


def test_file_of_another_teacher_is_not_used(digits, cache):
    other, cached = small_teacher(seed=1), small_teacher(seed=2)
    other.logits(digits)
    other.keep()
    kept_file(cache).rename(cache / "logits" / f"{cached.digest[:32]}.safetensors")
    again = small_teacher(seed=2)
    assert close(again.logits(digits), live(again, digits))


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1000])


def garble(path):
    path.write_bytes(b"\xff" * 5000)


def empty(path):
    path.write_bytes(b"")


def rewritten(change):
    """Return damage that leaves a valid safetensors file of the same teacher."""

    def damage(path):
        tables = load_file(path)
        digest = small_teacher().digest
        save_file(change(tables), path, {"teacher": digest})

    damage.__name__ = change.__name__
    return damage


def other_shape(tables):
    return {name: table[:100] for name, table in tables.items()}


def other_type(tables):
    return {name: table.double() for name, table in tables.items()}


def without_test(tables):
    return {"train": tables["train"]}


def not_finite(tables):
    tables["train"][:2000] = torch.nan
    tables["train"][2000:, 4] = torch.inf
    return tables


DAMAGES = [truncate, garble, empty, *map(rewritten, [other_shape, other_type, without_test, not_finite])]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damaged_file_is_ignored(digits, cache, damage):
    first = small_teacher()
    first.logits(digits)
    first.keep()
    damage(kept_file(cache))
    again = small_teacher()
    assert close(again.logits(digits), live(again, digits))


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
    again = CachedTeacher("small", "mlp-30", cached.model, tmp_path / "shipped.safetensors")
    assert (again.logits(digits) == 3.0).all()
