"""The training loop: what it promises about batches, modes, reproducibility and control from outside."""

import dataclasses
import math
import threading
import types

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from kd.config.distil import DistilConfig
from kd.data.digits import UNLABELLED, Mnist
from kd.data.transfer_set import with_labels
from kd.errors import UserError
from kd.experiments.base import Distillation
from kd.models import inference, registry
from kd.objectives import hinton, labels_only
from kd.randomness import generator
from kd.teachers.catalogue import load
from kd.training import batches, loop
from kd.training.learner import Learner
from kd.training.loop import Diverged, Plan, Training, learning_rate_at
from kd.training.threads import LearnerThreads
from tests.helpers import identical, same, small_teacher, weights

PLAN = Plan(epochs=2, batch_size=100, learning_rate=2e-3, seed=0)
SETTINGS = {"temperature": 4.0, "soft_weight": 0.9}


@pytest.fixture
def few(mnist):
    """200 images to train on and 40 to judge on: enough for slow networks."""
    judged = mnist.test.take(slice(None, None, 5))
    return Mnist(mnist.train.take(slice(None, None, 5)), judged, judged, "sample")


def pair(architecture="mlp-30", seed=0):
    return [
        Learner("student", registry.build(architecture, seed), hinton),
        Learner("control", registry.build(architecture, seed), labels_only),
    ]


def fit(learners, mnist, plan, settings, teacher=None, due=loop.every_epoch):
    """The records of a training from its beginning to its end."""
    return Training(learners, mnist, plan, settings, teacher).records(due)


def always(step):
    return True


def run(mnist, learners=None, plan=PLAN, teacher=None, due=loop.every_epoch, between=lambda record: None):
    """Train to the end and return the weights by learner. ``between`` may answer a record with new settings."""
    learners = learners or pair()
    needs_teacher = any(learner.objective is not labels_only for learner in learners)
    training = Training(
        learners, mnist, plan, SETTINGS, (teacher or small_teacher()) if needs_teacher else None
    )
    for record in training.records(due):
        training.settings.update(between(record) or {})
    return {learner.name: weights(learner.model) for learner in learners}


def control_alone(architecture="mlp-30", seed=0):
    return [Learner("control", registry.build(architecture, seed), labels_only)]


class Spy(nn.Module):
    """A model that remembers what it was trained on, and in which mode it was asked."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.batches, self.modes = [], []

    def forward(self, images):
        self.modes.append((torch.is_grad_enabled(), {module.training for module in self.modules()}))
        if torch.is_grad_enabled():
            self.batches.append(images.clone())
        return self.model(images)


class TeacherSpy:
    """A teacher that remembers which digits it was asked about."""

    def __init__(self):
        self.teacher, self.asked = small_teacher(), []

    def logits(self, digits):
        self.asked.append(digits)
        return self.teacher.logits(digits)


# -- batches -------------------------------------------------------------------


def test_student_and_control_see_the_same_batches(mnist):
    learners = pair()
    spies = [Spy(learner.model) for learner in learners]
    for learner, spy in zip(learners, spies):
        learner.model = spy
    run(mnist, learners)
    student, control = (spy.batches for spy in spies)
    assert len(student) == len(control) == 20
    assert all(torch.equal(a, b) for a, b in zip(student, control))


def test_epoch_has_each_image_once_in_a_new_order(mnist):
    teacher = TeacherSpy()
    run(mnist, teacher=teacher, plan=dataclasses.replace(PLAN, batch_size=300))
    epochs = [
        digits.ids for digits in teacher.asked if len(digits) == 1000
    ]  # the others are those that it is judged on
    assert len(epochs) == 2
    assert all(torch.equal(ids.sort().values, mnist.train.ids.sort().values) for ids in epochs)
    assert not torch.equal(*epochs)


def test_batch_matches_images_teacher_logits_and_labels(mnist):
    learners, seen = pair(), []
    spy = learners[0].model = Spy(learners[0].model)

    def watched(student, teacher, labels, settings):
        seen.append((teacher.logits, labels))
        return hinton(student, teacher, labels, settings)

    learners[0].objective = watched
    run(mnist, learners)
    live = small_teacher()
    known = {
        image.numpy().tobytes(): int(label) for image, label in zip(mnist.train.inputs(), mnist.train.labels)
    }
    assert len(seen) == len(spy.batches) == 20
    for images, (logits, labels) in zip(spy.batches, seen):
        torch.testing.assert_close(
            logits, inference.logits_in_chunks(live.model, images), rtol=1e-4, atol=1e-4
        )
        assert [known[image.numpy().tobytes()] for image in images] == labels.tolist()


@pytest.mark.parametrize("augmentation", ["jitter", "affine"])
def test_teacher_and_student_see_the_same_view_of_an_image(mnist, augmentation):
    """Beyer et al. 2022: a teacher that answers about the original teaches something else."""
    learners, said = pair("cnn-tiny"), []
    spy = learners[0].model = Spy(learners[0].model)

    def watched(student, teacher, labels, settings):
        said.append(teacher.logits)
        return hinton(student, teacher, labels, settings)

    learners[0].objective = watched
    run(mnist, learners, dataclasses.replace(PLAN, augmentation=augmentation))
    live = small_teacher()
    assert len(said) == len(spy.batches) == 20
    for images, logits in zip(spy.batches, said):
        torch.testing.assert_close(
            logits, inference.logits_in_chunks(live.model, images), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [
        ("adamw", lambda weights: torch.optim.AdamW(weights, weight_decay=1e-2)),
        ("sgd", lambda weights: torch.optim.SGD(weights, lr=1.0, momentum=0.9, nesterov=True)),
    ],
)
def test_training_equals_a_plain_loop(name, optimizer, mnist):
    trained = run(mnist, plan=dataclasses.replace(PLAN, optimizer=name))
    learner, teacher = pair()[0], small_teacher()
    model, step = learner.model, 0
    optimizer = optimizer(model.parameters())
    for epoch in range(2):
        order = torch.randperm(1000, generator=generator(0, "order", epoch))
        for places in order.split(100):
            optimizer.param_groups[0]["lr"] = learning_rate_at(step, 20, 2e-3)
            digits = mnist.train.take(places)
            said, taught = model(digits.inputs()), inference.logits_in_chunks(teacher.model, digits.inputs())
            soft = F.kl_div(F.log_softmax(said / 4, 1), F.softmax(taught / 4, 1), reduction="sum") * 16 / 100
            loss = 0.9 * soft + 0.1 * F.cross_entropy(said, digits.labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
    for name, value in model.state_dict().items():
        torch.testing.assert_close(trained["student"][name], value, rtol=1e-3, atol=1e-5)


def test_weights_without_gradient_decay_by_the_learning_rate(mnist):
    learner = Learner(
        "control", registry.build("mlp-30", 0), lambda student, *_: {"hard": student.logits.sum() * 0}
    )
    run(mnist, [learner], dataclasses.replace(PLAN, learning_rate=0.5))
    left = math.prod(1 - 0.01 * learning_rate_at(step, 20, 0.5) for step in range(20))
    for before, after in zip(registry.build("mlp-30", 0).parameters(), learner.model.parameters()):
        torch.testing.assert_close(after, before * left, rtol=1e-5, atol=1e-8)


def test_training_does_not_read_the_test_set(mnist):
    run(dataclasses.replace(mnist, test=None))


def test_batch_larger_than_the_data_is_refused(mnist):
    with pytest.raises(
        UserError,
        match=r"Batch size is 1,001, but there are only 1,000 training images; choose a smaller one",
    ):
        run(mnist, plan=dataclasses.replace(PLAN, batch_size=1001))
    run(mnist, plan=dataclasses.replace(PLAN, batch_size=1000, epochs=1))


# -- the same run again --------------------------------------------------------------


def test_student_and_control_start_from_the_same_weights(mnist):
    experiment = Distillation(DistilConfig(student="mlp-30", seed=5), mnist, small_teacher())
    student, control = experiment.trained.values()
    assert student is not control and identical(student, control)
    assert identical(student, registry.build("mlp-30", 5))


def test_same_seed_gives_the_same_weights(mnist):
    first = run(mnist)
    assert same(first, run(mnist))
    assert not identical(first["student"], first["control"])


def test_other_seed_gives_another_order(mnist):
    # The same initial weights: only the order differs.
    assert not same(run(mnist), run(mnist, plan=dataclasses.replace(PLAN, seed=1)))


@pytest.mark.parametrize("architecture", ["mlp-30", "cnn-tiny", "cnn", "vit-half"])
def test_control_learns_the_same_with_or_without_a_student(few, architecture, one_thread):
    plan = dataclasses.replace(PLAN, epochs=1)
    together = run(few, pair(architecture), plan)["control"]
    alone = run(few, control_alone(architecture), plan)["control"]
    assert identical(together, alone)


@pytest.mark.parametrize("architecture", ["mlp-30", "cnn-tiny"])
def test_learners_learn_the_same_in_parallel_threads(few, architecture, one_thread):
    plan = dataclasses.replace(PLAN, epochs=1)
    one_after_the_other = run(few, pair(architecture), plan)
    torch.set_num_threads(2)  # one for each
    assert same(one_after_the_other, run(few, pair(architecture), plan))


def test_every_block_is_gathered_by_the_same_number_of_threads(mnist, one_thread, monkeypatch):
    """A resumed training begins with another block, and must learn from the same teacher logits."""
    torch.set_num_threads(4)
    monkeypatch.setattr(batches, "BLOCK", 300)
    teacher, counts = TeacherSpy(), []
    ask = teacher.logits

    def noting(digits):
        if digits.file == "train" and len(digits) in (100, 300):
            counts.append(torch.get_num_threads())
        return ask(digits)

    teacher.logits = noting
    run(mnist, teacher=teacher)
    assert counts == [2] * 8


@pytest.mark.parametrize("epoch", [0, 1])
def test_training_resumed_at_any_block_learns_the_same(mnist, epoch, one_thread, monkeypatch):
    torch.set_num_threads(2)
    monkeypatch.setattr(batches, "BLOCK", 300)
    whole = run(mnist)
    training = Training(pair(), mnist, PLAN, SETTINGS, small_teacher())
    for record in training.records(always):
        if record.step == 10 * epoch + 5:
            break
    state = {name: value.clone() for name, value in training.state().items()}
    learners = pair()
    resumed = Training(learners, mnist, PLAN, SETTINGS, small_teacher())
    resumed.restore(state)
    list(resumed.records())
    assert same(whole, {learner.name: weights(learner.model) for learner in learners})


@pytest.mark.parametrize("architecture", ["mlp-30", "cnn-tiny", "cnn"])
def test_frequency_of_records_does_not_change_the_weights(few, architecture):
    plan = dataclasses.replace(PLAN, epochs=1, batch_size=50)
    seldom = run(few, pair(architecture), plan)
    assert same(seldom, run(few, pair(architecture), plan, due=always))
    assert same(seldom, run(few, pair(architecture), plan, due=lambda step: step % 3 == 0))


@pytest.mark.parametrize("architecture", ["mlp-30", "cnn"])
def test_global_random_numbers_do_not_change_the_weights(few, architecture):
    plan = dataclasses.replace(PLAN, epochs=1, batch_size=50)

    def noise(record):
        torch.manual_seed(record.step)
        torch.rand(100)

    torch.manual_seed(1)
    quiet = run(few, pair(architecture), plan, due=always)
    torch.manual_seed(2)
    assert same(quiet, run(few, pair(architecture), plan, due=always, between=noise))


def test_background_thread_gives_the_same_weights(few):
    found = {}
    plan = dataclasses.replace(PLAN, epochs=1)
    thread = threading.Thread(target=lambda: found.update(run(few, pair("cnn-tiny"), plan)))
    thread.start()
    thread.join(60)
    assert same(found, run(few, pair("cnn-tiny"), plan))


@pytest.mark.parametrize("augmentation", ["jitter", "affine"])
def test_augmented_training_can_be_repeated(mnist, augmentation):
    plan = dataclasses.replace(PLAN, augmentation=augmentation)
    varied = run(mnist, control_alone(), plan)
    torch.manual_seed(99)
    assert same(varied, run(mnist, control_alone(), plan, due=always))
    assert not same(varied, run(mnist, control_alone()))


def test_images_are_augmented_with_a_new_seed_each_time(mnist, monkeypatch):
    seeds = []

    def noted(digits, generator):
        seeds.append((len(digits), generator.initial_seed()))
        return digits

    monkeypatch.setitem(batches.AUGMENTATIONS, "jitter", noted)
    monkeypatch.setattr(batches, "BLOCK", 300)
    run(mnist, control_alone(), dataclasses.replace(PLAN, batch_size=10, augmentation="jitter"))
    assert sum(count for count, _ in seeds) == 2000 and len({seed for _, seed in seeds}) == len(seeds) >= 4


# -- modes -----------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["cnn-tiny", "cnn"])
def test_models_are_validated_in_eval_mode(few, architecture):
    learners = pair(architecture)
    for learner in learners:
        learner.model = Spy(learner.model)

    def modes(record):
        assert all(module.training for learner in learners for module in learner.model.modules())

    run(few, learners, dataclasses.replace(PLAN, batch_size=50), due=always, between=modes)
    for learner in learners:
        asked = learner.model.modes
        assert sum(grad for grad, _ in asked) == 8
        assert all(modes == {grad} for grad, modes in asked), (
            "a step in eval mode, or a validation in training mode"
        )


def test_teacher_stays_unchanged_in_eval_mode(few):
    teacher, modes = small_teacher("cnn-tiny"), []
    teacher.model.register_forward_hook(
        lambda module, *_: modes.append({part.training for part in module.modules()})
    )
    before = weights(teacher.model)
    run(
        few,
        teacher=teacher,
        between=lambda record: modes.append({part.training for part in teacher.model.modules()}),
    )
    assert len(modes) > 2 and all(mode == {False} for mode in modes)
    assert identical(before, teacher.model)
    assert all(parameter.grad is None for parameter in teacher.model.parameters())


# -- control from outside -------------------------------------------------------------


def temperatures(mnist, plan=PLAN, between=lambda record: None):
    """The temperature of each step."""
    learners, seen = pair(), []

    def watched(student, teacher, labels, settings):
        seen.append(settings["temperature"])
        return hinton(student, teacher, labels, settings)

    learners[0].objective = watched
    training = Training(learners, mnist, plan, SETTINGS, small_teacher())
    for record in training.records(always):
        training.settings.update(between(record) or {})
    return seen


def test_updated_settings_apply_from_the_next_step(mnist):
    updates = {3: {"temperature": 8.0}}
    assert temperatures(mnist, between=lambda record: updates.get(record.step)) == [4.0] * 3 + [8.0] * 17


def test_schedule_applies_from_the_following_step(mnist):
    plan = dataclasses.replace(
        PLAN, schedule=((0, "temperature", 2.0), (3, "temperature", 8.0), (19, "temperature", 5.0))
    )
    assert temperatures(mnist, plan) == [2.0] * 3 + [8.0] * 16 + [5.0]


def test_schedule_repeats_manual_changes_bit_for_bit(mnist):
    by_hand = {
        3: {"temperature": 8.0},
        7: {"soft_weight": 0.2, "temperature": 1.5},
        12: {"temperature": 20.0},
    }
    changed = run(mnist, due=always, between=lambda record: by_hand.get(record.step))
    schedule = tuple(
        (step, name, value) for step, changes in by_hand.items() for name, value in changes.items()
    )
    assert same(changed, run(mnist, plan=dataclasses.replace(PLAN, schedule=schedule)))
    unchanged = run(mnist)
    assert not identical(changed["student"], unchanged["student"])
    assert identical(changed["control"], unchanged["control"]), (
        "temperature and soft weight are the student's alone"
    )


def test_pause_changes_neither_weights_nor_counted_time(mnist, monkeypatch):
    clock = [0.0]

    def tick():
        clock[0] += 0.001
        return clock[0]

    monkeypatch.setattr(loop, "time", types.SimpleNamespace(perf_counter=tick))
    seconds = []

    def pause(record):
        clock[0] += 1000
        seconds.append(record.seconds)

    paused = run(mnist, due=lambda step: step in (3, 4), between=pause)
    assert all(0 < value < 1 for value in seconds)
    assert same(paused, run(mnist))


def test_closed_training_stops_at_once(mnist):
    learners = pair()
    training = fit(learners, mnist, PLAN, SETTINGS, small_teacher(), always)
    next(training)
    stopped = weights(learners[0].model)
    training.close()
    assert identical(stopped, learners[0].model)
    with pytest.raises(StopIteration):
        next(training)


# -- records -----------------------------------------------------------------------


def test_records_come_when_due_and_at_each_epoch_end(mnist):
    records = list(fit(pair(), mnist, PLAN, SETTINGS, small_teacher(), lambda step: step in (4, 13)))
    assert [record.step for record in records] == [4, 10, 13, 20]
    assert [record.epoch for record in records] == [0.4, 1.0, 1.3, 2.0]
    assert [record.whole_validation for record in records] == [False, True, False, True]
    assert {record.steps for record in records} == {20}


def test_records_hold_means_since_the_previous_record(mnist):
    learners, seen = pair(), []

    def watched(student, teacher, labels, settings):
        terms = hinton(student, teacher, labels, settings)
        right = (student.logits.argmax(1) == labels).float().mean().item()
        seen.append(({name: term.item() for name, term in terms.items()}, right))
        return terms

    learners[0].objective = watched
    start = 0
    for record in fit(learners, mnist, PLAN, SETTINGS, small_teacher(), lambda step: step in (4, 13)):
        part, start = seen[start:], len(seen)
        for name in ("soft", "hard"):
            assert record.losses[f"student {name}"] == pytest.approx(
                sum(terms[name] for terms, _ in part) / len(part), rel=1e-5
            )
        assert record.train_accuracy["student"] == pytest.approx(
            sum(right for _, right in part) / len(part), rel=1e-5
        )
    assert start == 20


def test_records_use_all_validation_images_at_epoch_ends(sample):
    validation = sample.test
    mnist = Mnist(sample.train.take(slice(None, None, 4)), validation, None, "full")
    learners = pair()
    for record in fit(
        learners, mnist, dataclasses.replace(PLAN, epochs=1), SETTINGS, small_teacher(), always
    ):
        judged = validation if record.whole_validation else validation.take(slice(None, None, 5))
        for learner in learners:
            right = (
                (inference.logits_in_chunks(learner.model, judged.inputs()).argmax(1) == judged.labels)
                .sum()
                .item()
            )
            assert record.validation_accuracy[learner.name] == pytest.approx(right / len(judged), abs=1e-6)


def test_record_is_one_flat_row(mnist):
    row = next(fit(pair(), mnist, PLAN, SETTINGS, small_teacher())).row()
    assert list(row) == [
        "step",
        "epoch",
        "seconds",
        "images_per_second",
        "loss student soft",
        "loss student hard",
        "loss control hard",
        "train student",
        "train control",
        "validation student",
        "validation control",
        "agreement student",
        "kl student",
        "ece student",
        "agreement control",
        "kl control",
        "ece control",
        "whole_validation",
    ]
    assert all(math.isfinite(value) for value in row.values())


# -- going wrong ---------------------------------------------------------------------


def not_a_number(student, teacher, labels, settings):
    return {"hard": student.logits.sum() * math.nan}


def spoils_the_weights(student, teacher, labels, settings):
    """A finite loss with a gradient that is not."""
    return {"hard": (student.logits * 0).abs().sum().sqrt()}


@pytest.mark.parametrize("objective", [not_a_number, spoils_the_weights])
def test_training_ends_when_a_value_is_not_finite(mnist, objective):
    learner = Learner("student", registry.build("mlp-30", 0), objective)
    plan = dataclasses.replace(PLAN, epochs=1, batch_size=1000)
    with pytest.raises(Diverged, match=r"Training diverged after 1 steps .*; try a lower learning rate\."):
        list(fit([learner], mnist, plan, SETTINGS))


def test_diverged_training_keeps_weights_of_its_last_record(mnist):
    """A step whose loss is finite can spoil the weights: it is found at the next record, and no such record is given out."""
    steps, records, good = [], [], {}

    def spoils_later(student, teacher, labels, settings):
        steps.append(1)
        return (
            not_a_number(student, teacher, labels, settings)
            if len(steps) > 7
            else spoils_the_weights(student, teacher, labels, settings)
            if len(steps) == 7
            else {"hard": student.logits.square().mean()}
        )

    learner = Learner("student", registry.build("mlp-30", 0), spoils_later)
    with pytest.raises(Diverged):
        for record in fit(
            [learner],
            mnist,
            dataclasses.replace(PLAN, epochs=1, batch_size=100),
            SETTINGS,
            due=lambda step: step % 3 == 0 or step == 7,
        ):
            records.append(record.step)
            good = weights(learner.model)
    assert records == [3, 6] and identical(learner.model, good)


def test_too_high_learning_rate_is_detected(mnist):
    with pytest.raises(Diverged):
        run(mnist, plan=dataclasses.replace(PLAN, learning_rate=1e30), due=always)


# -- the learning rate ------------------------------------------------------------------


@given(steps=st.integers(1, 3000), peak=st.floats(1e-6, 1.0))
def test_learning_rate_rises_to_its_peak_and_falls_to_almost_0(steps, peak):
    rates = [learning_rate_at(step, steps, peak) for step in range(steps)]
    top = rates.index(max(rates))
    assert max(rates) == pytest.approx(peak) and min(rates) > 0
    assert rates[: top + 1] == sorted(rates[: top + 1]) and rates[top:] == sorted(rates[top:], reverse=True)
    assert top + 1 == max(1, round(0.2 * steps))
    assert steps < 10 or rates[-1] < 0.05 * peak


def test_learning_rate_rises_linearly_and_falls_as_a_cosine():
    rates = [learning_rate_at(step, 100, 1.0) for step in range(100)]
    assert rates[:20] == pytest.approx([(step + 1) / 20 for step in range(20)])
    assert rates[20:] == pytest.approx([(1 + math.cos(math.pi * (i + 1) / 81)) / 2 for i in range(80)])


def test_random_numbers_depend_only_on_their_key():
    def draw(*key):
        return torch.rand(4, generator=generator(*key)).tolist()

    assert draw(0, "order", 1) == draw(0, "order", 1)
    keys = [(0, "order", 1), (0, "order", 2), (1, "order", 1), (0, "augment", 1), (0, "order", 11)]
    assert len({tuple(draw(*key)) for key in keys}) == 5


def test_accuracy_is_the_share_of_correct_predictions(mnist):
    model = registry.build("mlp-30", 0)
    right = sum(
        int(model(image[None]).argmax()) == int(label)
        for image, label in zip(mnist.test.inputs(), mnist.test.labels)
    )
    assert loop.accuracy(model, mnist.test) == pytest.approx(right / 200)
    assert model.training, "accuracy() leaves the mode as it was"


# -- few labels ----------------------------------------------------------------------------------


@pytest.fixture
def few_labels(mnist):
    train = with_labels(mnist.train, 20, generator("few labels"))
    return dataclasses.replace(mnist, train=train)


def test_every_batch_has_labelled_images_when_labels_are_few(few_labels):
    training = Training(pair(), few_labels, PLAN, SETTINGS, small_teacher())
    all_batches = list(training._batches.start(0, LearnerThreads([], parallel=False)))
    assert len(all_batches) == 20
    for images, labels, taught in all_batches:
        assert len(images) == len(labels) == len(taught.logits) == 120
        assert sorted(labels[100:].tolist()) == [digit for digit in range(10) for _ in range(2)]
    first_epoch = torch.cat([images[:100] for images, _, _ in all_batches[:10]])
    assert len({image.numpy().tobytes() for image in first_epoch}) == len(few_labels.train)


def test_control_learns_only_from_labelled_images(few_labels):
    """Other images in place of the unlabelled ones, and labels of theirs that nobody may see, change nothing for it."""
    shown = few_labels.train
    hidden = dataclasses.replace(
        shown,
        images=torch.where((shown.labels == UNLABELLED)[:, None, None], 255 - shown.images, shown.images),
    )
    one = run(few_labels, control_alone())
    other = run(dataclasses.replace(few_labels, train=hidden), control_alone())
    assert identical(one["control"], other["control"])


def test_training_accuracy_counts_only_labelled_images(few_labels):
    record = list(fit(control_alone(), few_labels, dataclasses.replace(PLAN, epochs=10), SETTINGS))[-1]
    assert record.train_accuracy["control"] > 0.95 and record.validation_accuracy["control"] < 0.9


def test_student_beats_its_control_with_few_labels(mnist, few_labels):
    """What distillation is for: the teacher answers about images that nobody labelled."""
    teacher = load("cnn")
    learners = [
        Learner("student", registry.build("mlp-128", 0), hinton),
        Learner("control", registry.build("mlp-128", 0), labels_only),
    ]
    record = list(fit(learners, few_labels, dataclasses.replace(PLAN, epochs=8), SETTINGS, teacher))[-1]
    assert record.validation_accuracy["student"] > record.validation_accuracy["control"] + 0.15
