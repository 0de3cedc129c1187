"""Teachers: the cache answers as the live model would, whatever the order; the shipped one is what its json says."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from kd.config.distil import DistilConfig
from kd.config.teacher import TeacherConfig
from kd.data.augmentation import affine, jitter
from kd.data.digits import Digits
from kd.data.task import MNIST
from kd.errors import UserError
from kd.experiments.base import Distillation
from kd.metrics.size import network_size
from kd.models import inference, registry
from kd.objectives import soft_loss
from kd.store import runs
from kd.teachers import catalogue
from kd.teachers.averaged import MeanTeacher
from kd.teachers.cached import CachedTeacher, weights_digest
from tests.helpers import identical, small_teacher, weights


def live(cached, digits):
    return inference.logits_in_chunks(cached.model, digits.inputs())


def close(one, other, tolerance=1e-4):
    return torch.allclose(one, other, rtol=0, atol=tolerance)


class Counted:
    """How many images a teacher's model was asked about."""

    def __init__(self, cached):
        self.images, self.modes = 0, set()
        cached.model.register_forward_hook(self._count)

    def _count(self, model, inputs, output):
        self.images += len(inputs[0])
        self.modes |= {module.training for module in model.modules()}


@pytest.fixture
def digits(mnist):
    return mnist.train


# -- the cache ---------------------------------------------------------------------


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
    assert counted.images == 128, "what is known was computed again"
    cached.logits(digits.take(slice(64, 192)))
    assert counted.images == 192, "only the unknown half is computed"


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


# -- views ---------------------------------------------------------------------------


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
        "what is kept are the images as they are"
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


# -- kept on disk ------------------------------------------------------------------------


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
    """Damage that is still a safetensors file of the same teacher."""

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


# -- names ---------------------------------------------------------------------------------


def test_teacher_run_is_loaded_by_its_id(home, mnist):
    model = registry.build("mlp-30", 3)
    id = runs.save(runs.new_id(), TeacherConfig(teacher="mlp-30"), "done", [], {"teacher": model}, {}).id
    found = catalogue.load(id)
    assert (found.name, found.architecture) == (id, "mlp-30") and identical(found.model, model)


# -- several teachers ---------------------------------------------------------------


@pytest.fixture
def three():
    return [small_teacher(seed=1), small_teacher("mlp-32", seed=2), small_teacher("cnn-tiny", seed=3)]


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_several_teachers_average_probabilities_geometrically(three, digits, temperature):
    batch = digits.take(slice(0, 50))
    product = torch.ones(50, 10, dtype=torch.float64)
    for each in three:
        product *= (each.logits(batch).double() / temperature).softmax(1) ** (1 / 3)
    together = MeanTeacher("a+b+c", three).logits(batch).double()
    torch.testing.assert_close(
        (together / temperature).softmax(1), product / product.sum(1, keepdim=True), rtol=1e-5, atol=1e-8
    )


def test_several_teachers_are_each_computed_once(three, digits):
    together, batch = MeanTeacher("a+b+c", three), digits.take(slice(0, 200))
    first = together.logits(batch)
    assert close(first, live(together, batch), 1e-3)
    counts = [Counted(each) for each in three]
    assert torch.equal(together.logits(batch), first) and [count.images for count in counts] == [0, 0, 0]
    assert together.accuracy(batch) == (first.argmax(1) == batch.labels).float().mean().item()
    assert not together.model.training and not any(p.requires_grad for p in together.model.parameters())


def test_size_of_several_teachers_is_the_sum(three):
    together = MeanTeacher("a+b+c", three)
    assert together.architecture == "mlp-30+mlp-32+cnn-tiny"
    parts = [network_size(each.architecture) for each in three]
    whole = network_size(together.architecture)
    assert (whole.parameters, whole.macs) == (
        sum(part.parameters for part in parts),
        sum(part.macs for part in parts),
    )


def test_logits_of_each_of_several_teachers_are_kept(digits):
    pair = [small_teacher(seed=1), small_teacher(seed=2)]
    together, batch = MeanTeacher("a+b", pair), digits.take(slice(0, 50))
    first = together.logits(batch)
    together.keep()
    again = MeanTeacher("a+b", [small_teacher(seed=1), small_teacher(seed=2)])
    again.model.register_forward_hook(lambda *_: pytest.fail("asked again"))
    assert torch.equal(again.logits(batch), first)


def test_several_teachers_are_loaded_by_names_joined_by_plus(home, mnist):
    run = runs.save(
        runs.new_id(),
        TeacherConfig(teacher="cnn-tiny"),
        "done",
        [],
        {"teacher": registry.build("cnn-tiny", 3)},
        {},
    )
    together = catalogue.load(f"cnn+{run.id}")
    batch = mnist.test.take(slice(0, 20))
    expected = (catalogue.load("cnn").logits(batch) + catalogue.load(run.id).logits(batch)) / 2
    torch.testing.assert_close(together.logits(batch), expected)
    assert together.name == f"cnn+{run.id}" and together.architecture == "cnn+cnn-tiny"
    for name in ("cnn+nobody", "cnn+"):
        with pytest.raises(UserError, match="There is no teacher called"):
            catalogue.load(name)


def test_student_learns_from_several_teachers(three, mnist):
    experiment = Distillation(
        DistilConfig(student="mlp-30", epochs=1, batch_size=100), mnist, MeanTeacher("a+b+c", three)
    )
    (record,) = experiment.records()
    measures = experiment.measures(record)["models"]
    assert (
        measures["student"]["agreement"] > measures["control"]["agreement"]
        and measures["teacher"]["agreement"] == 1
    )


def test_run_without_a_teacher_is_refused(home):
    student = registry.build("mlp-30", 3)
    config = DistilConfig(student="mlp-30")
    id = runs.save(runs.new_id(), config, "done", [], {"student": student, "control": student}, {}).id
    with pytest.raises(UserError, match="is not a teacher; choose a run that trained one"):
        catalogue.load(id)


@pytest.mark.parametrize(
    "name", ["nobody", "", "../cnn", "cnn.logits", "/etc/passwd", "20260101-000000-0123456789abcdef"]
)
def test_unknown_teacher_name_is_refused(home, name):
    with pytest.raises(UserError, match="choose|Choose"):
        catalogue.load(name)


@pytest.mark.parametrize("text", [None, "{", "[]", "{}", '{"architecture": "resnet"}', '{"architecture": 5}'])
def test_damaged_description_is_named(tmp_path, monkeypatch, text):
    save_file(weights(small_teacher().model), tmp_path / "mine.safetensors")
    if text is not None:
        (tmp_path / "mine.json").write_text(text)
    monkeypatch.setattr(catalogue, "WEIGHTS", tmp_path)
    with pytest.raises(UserError, match=r"restore kd/teachers/weights/mine\.json"):
        catalogue.load("mine")


# -- the shipped teacher ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def about():
    return json.loads((catalogue.WEIGHTS / "cnn.json").read_text())


@pytest.fixture
def cnn():
    return catalogue.load("cnn")


def test_shipped_teacher_matches_its_description(cnn, about):
    assert "cnn" in catalogue.shipped() and not any("logits" in name for name in catalogue.shipped())
    assert cnn.digest == about["weights_sha256"] == weights_digest(cnn.model)
    assert cnn.architecture == about["architecture"] == "cnn"


def test_shipped_teacher_makes_at_most_40_test_errors(about):
    assert about["test_errors"] <= 40 and about["test_images"] == 10_000
    assert about["train_images"] == 55_000 and about["validation_images"] == 5_000


def test_command_of_the_shipped_teacher_gives_its_config(about):
    command = about["command"]
    assert command.startswith("python -m kd teacher ") and command.endswith(" --ship cnn")
    config = TeacherConfig.from_dict(about["config"])
    assert all(f"--{name.replace('_', '-')} {value}" in command for name, value in about["config"].items())
    assert config.optimizer == "adamw", "which the command leaves out"


@pytest.mark.parametrize("name", catalogue.shipped())
def test_each_shipped_teacher_has_a_training_curve(name):
    told = catalogue.describe(name)
    assert [row["epoch"] for row in told["curve"]] == list(range(1, told["config"]["epochs"] + 1))
    assert told["curve"][0]["loss teacher hard"] > told["curve"][-1]["loss teacher hard"] > 0
    # The curve ends where its weights do: those that ship, or those of its recipe run again.
    errors = told.get("curve_validation_errors", told["validation_errors"])
    assert told["curve"][-1]["validation teacher"] == pytest.approx(
        1 - errors / told["validation_images"], abs=1 / told["validation_images"]
    )
    assert told.get("curve_weights_sha256") != told["weights_sha256"]


def test_shipped_logits_are_complete_and_equal_live_logits(cnn, sample):
    counted = Counted(cnn)
    for part in (sample.train, sample.test):
        logits = cnn.logits(part)
        assert counted.images == 0, "the shipped logits have gaps"
        assert close(logits, inference.logits_in_chunks(cnn.model, part.inputs()), 1e-3)
        counted.images = 0


def test_validation_errors_match_the_description(cnn, sample, about):
    # The sample's images are the validation images.
    wrong = sum(
        int((cnn.logits(part).argmax(1) != part.labels).sum()) for part in (sample.train, sample.test)
    )
    assert wrong == about["validation_errors"]


def test_test_errors_match_the_description(cnn, full_mnist, about):
    wrong = int(
        (
            inference.logits_in_chunks(cnn.model, full_mnist.test.inputs()).argmax(1)
            != full_mnist.test.labels
        ).sum()
    )
    assert abs(wrong - about["test_errors"]) <= 1
    assert abs(round((1 - cnn.accuracy(full_mnist.test)) * 10_000) - about["test_errors"]) <= 1
    assert about["data_sha256"] == full_mnist.digest


def test_shipped_logits_cover_all_of_mnist(cnn, full_mnist):
    counted = Counted(cnn)
    for part in (full_mnist.train, full_mnist.validation, full_mnist.test):
        assert cnn.logits(part).isfinite().all()
    assert counted.images == 0
