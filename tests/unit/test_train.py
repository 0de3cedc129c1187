"""The training loop: batches, modes, learning rate and few labels."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from kd.data.digits import UNLABELLED
from kd.data.transfer_set import with_labels
from kd.errors import UserError
from kd.models import inference, registry
from kd.objectives import hinton, labels_only
from kd.randomness import generator
from kd.teachers.catalogue import load
from kd.training import loop
from kd.training.learner import Learner
from kd.training.loop import Training, learning_rate_at
from kd.training.threads import LearnerThreads
from tests.helpers import identical, small_teacher, weights
from tests.training import PLAN, SETTINGS, Spy, TeacherSpy, always, control_alone, fit, pair, run

# -- batches -------------------------------------------------------------------------------


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
    ]  # the other calls are for validation
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
    """Beyer et al. 2022: logits of the original image are worse targets for an augmented one."""
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


# -- modes ---------------------------------------------------------------------------------


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
            "a training step ran in eval mode, or validation in training mode"
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


# -- the learning rate ---------------------------------------------------------------------


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
    assert model.training, "accuracy() must restore the mode"


# -- few labels ----------------------------------------------------------------------------


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
    """Replacing the unlabelled images must not change the control."""
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
    """The purpose of distillation: the teacher supplies targets for unlabelled images."""
    teacher = load("cnn")
    learners = [
        Learner("student", registry.build("mlp-128", 0), hinton),
        Learner("control", registry.build("mlp-128", 0), labels_only),
    ]
    record = list(fit(learners, few_labels, dataclasses.replace(PLAN, epochs=8), SETTINGS, teacher))[-1]
    assert record.validation_accuracy["student"] > record.validation_accuracy["control"] + 0.15
