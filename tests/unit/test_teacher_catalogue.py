"""Teachers by name: runs, several teachers as one, and the shipped teacher."""

import hashlib
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from kd.config.distil import DistilConfig
from kd.config.teacher import TeacherConfig
from kd.data import habits, handwriting
from kd.data.augmentation import VIEWS, view
from kd.data.digits import normalize
from kd.errors import UserError
from kd.experiments.distil import Distillation
from kd.metrics.size import network_size
from kd.models import inference, registry
from kd.store import runs
from kd.teachers import catalogue
from kd.teachers.averaged import MeanTeacher
from kd.teachers.cached import weights_digest
from tests.helpers import identical, small_teacher, weights
from tests.teachers import Counted, close, live

# -- names ---------------------------------------------------------------------------------


def test_teacher_run_is_loaded_by_its_id(home, mnist):
    model = registry.build("mlp-30", 3)
    id = runs.save(runs.new_id(), TeacherConfig(teacher="mlp-30"), "done", [], {"teacher": model}, {}).id
    found = catalogue.load(id)
    assert (found.name, found.architecture) == (id, "mlp-30") and identical(found.model, model)


# -- several teachers ----------------------------------------------------------------------


@pytest.fixture
def three():
    names = ("mlp-64", "mlp-32", "cnn-tiny")
    return [small_teacher(name, seed) for seed, name in enumerate(names, 1)]


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
    assert together.architecture == "mlp-64+mlp-32+cnn-tiny"
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
    again.model.register_forward_hook(lambda *_: pytest.fail("the teachers computed the logits again"))
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


# -- the shipped teacher -------------------------------------------------------------------


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
    assert config.optimizer == "adamw", "the command omits the default optimizer"


@pytest.mark.parametrize("name", catalogue.shipped())
def test_each_shipped_teacher_has_a_training_curve(name):
    told = catalogue.describe(name)
    assert [row["epoch"] for row in told["curve"]] == list(range(1, told["config"]["epochs"] + 1))
    assert told["curve"][0]["loss teacher hard"] > told["curve"][-1]["loss teacher hard"] > 0
    # The curve ends at the accuracy of the shipped weights, or of a repeated training with the same config.
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


@pytest.mark.parametrize("name", catalogue.shipped())
def test_shipped_logits_have_the_checksum_of_the_description(name):
    content = (catalogue.WEIGHTS / f"{name}.logits.safetensors").read_bytes()
    assert catalogue.describe(name)["logits_sha256"] == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("change", ["a value", "no file", "no checksum"])
def test_changed_shipped_logits_are_computed_again(cnn, digits, tmp_path, monkeypatch, change):
    for path in catalogue.WEIGHTS.glob("cnn*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    logits, description = tmp_path / "cnn.logits.safetensors", tmp_path / "cnn.json"
    if change == "a value":
        tables = load_file(logits)
        tables["train"] += 5.0
        save_file(tables, logits, {"teacher": cnn.digest})
    elif change == "no file":
        logits.unlink()
    else:
        told = json.loads(description.read_text())
        del told["logits_sha256"]
        description.write_text(json.dumps(told))
    monkeypatch.setattr(catalogue, "WEIGHTS", tmp_path)
    again, few = catalogue.load("cnn"), digits.take(slice(0, 64))
    counted = Counted(again)
    assert close(again.logits(few), live(cnn, few)) and counted.images == 64


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


# -- the teacher of handwriting -------------------------------------------------------------------


@pytest.fixture
def pen():
    return catalogue.load("cnn-pen")


def test_pen_teacher_is_large_and_accurate_enough(pen):
    told = catalogue.describe("cnn-pen")
    teacher, student = network_size(pen.architecture), network_size("mlp-128")
    assert student.parameters <= teacher.parameters / 5, "the student is to be visibly smaller"
    assert teacher.parameters < 0.55e6 and teacher.macs < 30e6 and teacher.bytes < 5e6
    assert told["test_errors"] <= 36 and told["config"]["augmentation"] == "new-handwriting"


def test_pen_teacher_ships_the_logits_of_all_views(pen, sample):
    told, path = catalogue.describe("cnn-pen"), catalogue.logits_path("cnn-pen", "handwriting")
    assert path.stat().st_size < 5e6
    assert hashlib.sha256(path.read_bytes()).hexdigest() == told["handwriting_logits_sha256"]
    teacher = catalogue.load("cnn-pen")
    counted = Counted(teacher)
    few = sample.train.take(slice(0, 200))
    for number in range(VIEWS["handwriting"]):
        seen = view(few, "handwriting", torch.full_like(few.ids, number))
        logits = teacher.logits(seen)
        assert counted.images == 0, "the shipped logits have gaps"
        # Every machine draws the views itself: a rounded pixel may differ by one tone.
        assert close(logits, inference.logits_in_chunks(teacher.model, seen.inputs()), 0.1)
        counted.images = 0


def test_pen_teacher_reads_habits_that_it_was_not_trained_on(pen):
    book = handwriting.Book(habits.HELD_OUT)
    ids = torch.arange(20 * len(book.habits))
    images = handwriting.draw(book, ids // 20, handwriting.uniform(ids, ids * 0, 128))
    logits = inference.logits_in_chunks(pen.model, normalize(images))
    wrong = (logits.argmax(1) != book.digits[ids // 20]).float().mean()
    assert wrong < 0.05
