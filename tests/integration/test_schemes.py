"""Schemes: teachers and order of training, and that a chain of trainings behaves like one."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load, save

from kd.config.distil import DistilConfig
from kd.config.schemes import SCHEMES
from kd.errors import UserError
from kd.experiments.distil import Distillation
from kd.models import registry
from kd.objectives import Outputs, hinton
from kd.objectives.feature_matching import exits
from kd.randomness import seed
from kd.teachers.cached import CachedTeacher
from kd.teachers.catalogue import load as load_teacher
from kd.training.loop import accuracy
from tests.helpers import identical, small_teacher, weights

CONFIGS = {
    "teacher": DistilConfig(student="mlp-8-8", epochs=2),
    "assistant": DistilConfig(student="mlp-8-8", epochs=2, scheme="assistant", assistant="mlp-32"),
    "born-again": DistilConfig(student="mlp-8-8", epochs=2, scheme="born-again", generations=2),
    "mutual": DistilConfig(student="mlp-8-8", epochs=2, scheme="mutual"),
    "exits": DistilConfig(student="mlp-8-8", epochs=2, scheme="exits"),
}
every = pytest.mark.parametrize("config", CONFIGS.values(), ids=list(CONFIGS))


def outcome(config, mnist, teacher=None):
    experiment = Distillation(config, mnist, teacher or small_teacher("mlp-32"))
    for _ in experiment.records():
        pass
    return {name: weights(model) for name, model in experiment.trained.items()}


def timeless(records):
    return [dataclasses.replace(record, seconds=0, images_per_second=0) for record in records]


def test_every_scheme_is_tested():
    assert set(CONFIGS) == set(SCHEMES)


# -- teachers of each scheme ----------------------------------------------------------------------------


@every
def test_the_control_is_the_same_in_every_scheme(config, mnist, one_thread):
    """Same initial weights and batches, labels alone: the scheme must not affect the control."""
    assert identical(outcome(config, mnist)["control"], outcome(CONFIGS["teacher"], mnist)["control"])


def test_mutual_students_have_separate_gradients(mnist):
    """Compare one step with the analytic gradient of each student's own loss by its own weights."""
    few = dataclasses.replace(mnist, train=mnist.train.take(slice(0, 50)))
    config = CONFIGS["mutual"].replace(batch_size=50, epochs=1)
    experiment = Distillation(config, few, small_teacher("mlp-32"))
    one, other = registry.build("mlp-8-8", config.seed), registry.build("mlp-8-8", seed(config.seed, "peer"))
    images, labels = few.train.inputs(), few.train.labels
    said, heard = one(images), other(images).detach()
    loss = hinton(Outputs(said), Outputs(heard), labels, experiment.settings)
    expected = torch.autograd.grad(sum(loss.values()), list(one.parameters()))
    list(experiment.records())
    for before, after, gradient in zip(
        one.parameters(), experiment.trained["student"].parameters(), expected
    ):
        moved, clear = after - before.detach() * (1 - config.learning_rate * 0.01), gradient.abs() > 1e-5
        # AdamW's first step goes by the learning rate against the gradient's sign.
        assert torch.equal(moved.sign()[clear], -gradient.sign()[clear])
    assert not identical(experiment.trained["peer"], experiment.trained["student"])


def test_exits_learn_from_the_end_and_the_end_from_labels(mnist):
    """Compare one step with the analytic gradient: soft targets do not reach the last layer."""
    few = dataclasses.replace(mnist, train=mnist.train.take(slice(0, 50)))
    config = CONFIGS["exits"].replace(student="mlp-12-8", batch_size=50, epochs=1)
    experiment = Distillation(config, few, small_teacher("mlp-32"))
    model, exit = registry.build("mlp-12-8", 0), exits("mlp-12-8", 0).projection[0]
    images, labels = few.train.inputs(), few.train.labels
    hidden = model[2](model[1](model[0](images)))
    end, early = model[5](model[4](model[3](hidden))), exit(hidden)
    soft = (end.detach() / 4).softmax(1)
    loss = F.cross_entropy(end, labels) + 0.1 * F.cross_entropy(early, labels)
    loss = loss + 0.9 * 16 * (soft * (soft.log() - (early / 4).log_softmax(1))).sum(1).mean()
    expected = torch.autograd.grad(loss, [*model.parameters(), *exit.parameters()])
    list(experiment.records())
    learned = [
        *experiment.trained["student"].parameters(),
        *experiment.training._training.learners[0].connection.projection.parameters(),
    ]
    for before, after, gradient in zip(
        [*model.parameters(), *exit.parameters()], learned, expected, strict=True
    ):
        moved, clear = after - before.detach() * (1 - config.learning_rate * 0.01), gradient.abs() > 1e-5
        assert clear.any() and torch.equal(moved.sign()[clear], -gradient.sign()[clear])
    assert set(experiment.trained) == {"student", "control"}, "the exits are dropped"


@pytest.mark.parametrize("student", ["cnn-tiny", "cnn-separable", "vit-half", "mlp-800x2"])
def test_every_deep_student_can_have_exits(student, mnist):
    few = dataclasses.replace(mnist, train=mnist.train.take(slice(0, 20)))
    experiment = Distillation(
        DistilConfig(student=student, scheme="exits", epochs=1, batch_size=10), few, small_teacher("mlp-32")
    )
    assert [set(record.losses) for record in experiment.records()] == [
        {"student hard", "student exits, soft", "student exits, hard", "control hard"}
    ]


def test_the_first_generation_learns_from_the_trained_control(mnist, one_thread):
    config = CONFIGS["born-again"].replace(generations=1)
    made = outcome(config, mnist)
    control = registry.build("mlp-8-8", config.seed)
    control.load_state_dict(made["control"])
    direct = outcome(CONFIGS["teacher"], mnist, CachedTeacher("control", "mlp-8-8", control))
    assert identical(made["student"], direct["student"])


def test_the_second_generation_learns_from_the_first(mnist, one_thread):
    made = outcome(CONFIGS["born-again"], mnist)
    assert set(made) == {"control", "generation-1", "student"}
    first = registry.build("mlp-8-8", 0)
    first.load_state_dict(made["generation-1"])
    direct = outcome(CONFIGS["teacher"], mnist, CachedTeacher("first", "mlp-8-8", first))
    assert identical(made["student"], direct["student"])


def test_student_learns_from_the_assistant(mnist, one_thread):
    made = outcome(CONFIGS["assistant"], mnist)
    assert identical(
        made["assistant"], outcome(CONFIGS["teacher"].replace(student="mlp-32"), mnist)["student"]
    )
    assistant = registry.build("mlp-32", 0)
    assistant.load_state_dict(made["assistant"])
    direct = outcome(CONFIGS["teacher"], mnist, CachedTeacher("assistant", "mlp-32", assistant))
    assert identical(made["student"], direct["student"])


# -- a chain is like one training -------------------------------------------------------------------


@every
def test_steps_and_epochs_count_over_all_stages(config, mnist):
    records = list(Distillation(config, mnist, small_teacher("mlp-32")).records())
    assert [record.epoch for record in records] == list(range(1, config.total_epochs + 1))
    assert records[-1].step == records[-1].steps == 8 * config.total_epochs
    assert all(later.seconds > sooner.seconds for sooner, later in zip(records, records[1:]))


@every
def test_a_chain_resumes_exactly_in_every_stage(config, mnist):
    whole = Distillation(config, mnist, small_teacher("mlp-32"))
    records = list(whole.records(lambda step: step % 8 == 3))
    for stop in range(3, 8 * config.total_epochs, 8):
        first = Distillation(config, mnist, small_teacher("mlp-32"))
        part = []
        for record in first.records(lambda step: step % 8 == 3):
            part.append(record)
            if record.step == stop:
                break
        kept = load(save({key: value.contiguous() for key, value in first.training.state().items()}))
        second = Distillation(config, mnist, small_teacher("mlp-32"))
        part += list(second.records(lambda step: step % 8 == 3, kept))
        assert timeless(part) == timeless(records)
        assert all(identical(second.trained[name], model) for name, model in whole.trained.items())


def test_checkpoint_of_another_scheme_is_refused(mnist):
    first = Distillation(CONFIGS["teacher"], mnist, small_teacher("mlp-32"))
    next(first.records())
    for name in ("assistant", "mutual"):
        with pytest.raises(UserError, match="The checkpoint belongs to another training"):
            Distillation(CONFIGS[name], mnist, small_teacher("mlp-32")).records(state=first.training.state())


def test_schedule_counts_the_steps_of_all_stages(mnist):
    """The second stage starts with the temperature set in the first, until the second sets its own."""
    config = CONFIGS["assistant"].replace(schedule=[(5, "temperature", 9.0), (20, "temperature", 2.0)])
    experiment = Distillation(config, mnist, small_teacher("mlp-32"))
    seen = []
    for _ in experiment.records(lambda step: True):
        seen.append(experiment.training._training.settings["temperature"])
    assert seen == [4.0] * 4 + [9.0] * 15 + [2.0] * 13


def test_schedule_repeats_manual_changes(mnist):
    by_hand = Distillation(CONFIGS["assistant"], mnist, small_teacher("mlp-32"))
    for record in by_hand.records(lambda step: step in (5, 16, 20)):
        if record.step == 16:
            by_hand.training.settings.update(temperature=8.0)  # right between the stages
    config = CONFIGS["assistant"].replace(schedule=[(16, "temperature", 8.0)])
    assert identical(by_hand.trained["student"], outcome(config, mnist)["student"])


# -- benefit -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "gain"), [("assistant", 0.05), ("born-again", 0.0), ("mutual", 0.0), ("exits", 0.0)]
)
def test_with_few_labels_the_student_is_better_than_its_control(name, gain, mnist, sample):
    """Three seeds, 100 labels among 1,000 images: the gain is large with a teacher and small without."""
    gains, judged = [], dataclasses.replace(mnist, validation=sample.validation)
    for number in range(3):
        config = CONFIGS[name].replace(
            student="cnn-tiny" if name == "exits" else "mlp-128",
            labels=100,
            epochs=10 if name == "exits" else 15,
            temperature=1,
            soft_weight=0.7,
            seed=number,
        )
        experiment = Distillation(config, judged, load_teacher("cnn"))
        for _ in experiment.records():
            pass
        right = {name: accuracy(model, judged.validation) for name, model in experiment.trained.items()}
        gains.append(right["student"] - right["control"])
    assert sum(gains) / len(gains) > gain, gains


# -- bad input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"scheme": "none"},
            "no scheme called 'none'; the schemes are teacher, assistant, born-again, mutual, exits",
        ),
        ({"scheme": "exits"}, "needs a student with at least two hidden layers, but mlp-128 has fewer"),
        (
            {"scheme": "exits", "student": "cnn-tiny", "method": "pkt"},
            "Exits learn from outputs alone, but the method pkt compares hidden layers",
        ),
        (
            {"scheme": "mutual", "method": "cosine"},
            "learn from outputs alone, but the method cosine compares hidden layers",
        ),
        ({"scheme": "mutual", "method": "label-smoothing"}, "The method label-smoothing uses no teacher"),
        ({"scheme": "born-again", "initialization": "teacher"}, "choose the scheme teacher"),
        (
            {"scheme": "mutual", "generations": 3},
            "Generations plays no part in the scheme mutual; leave it out",
        ),
        ({"scheme": "born-again", "generations": 6}, "Generations must be between 1 and 5"),
        (
            {"scheme": "assistant", "assistant": "linear", "method": "fitnets"},
            "the assistant linear has none",
        ),
        ({"scheme": "assistant", "assistant": "big"}, "There is no architecture called 'big'"),
    ],
)
def test_invalid_scheme_settings_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        DistilConfig(**settings)
