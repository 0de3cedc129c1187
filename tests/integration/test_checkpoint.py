"""A run resumed from a checkpoint equals an uninterrupted run, bit for bit."""

import dataclasses

import pytest
import torch
from safetensors.torch import load, save

from kd.models import registry
from kd.objectives import hinton, labels_only
from kd.training.learner import Learner
from kd.training.loop import Plan, Training
from kd.training.optimizers import OPTIMIZERS
from tests.helpers import same, small_teacher, weights

PLAN = Plan(epochs=2, batch_size=64, learning_rate=2e-3, seed=3, augmentation="jitter")  # 16 steps an epoch
SETTINGS = {"temperature": 4.0, "soft_weight": 0.9}
POINTS = [1, 7, 15, 16, 17, 31]


def training(mnist, architecture="mlp-30", plan=PLAN, teacher=True):
    learners = [Learner("control", registry.build(architecture, plan.seed), labels_only)]
    if teacher:
        learners.insert(0, Learner("student", registry.build(architecture, plan.seed), hinton))
    return Training(learners, mnist, plan, SETTINGS, small_teacher("mlp-32") if teacher else None)


def outcome(trained):
    return {learner.name: weights(learner.model) for learner in trained.learners}


def without_time(records):
    return [dataclasses.replace(record, seconds=0, images_per_second=0) for record in records]


@pytest.mark.parametrize("block", [2048, 200])  # a whole epoch at once, or three batches
@pytest.mark.parametrize("stop", POINTS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_resume_at_any_step_gives_same_weights_and_records(mnist, monkeypatch, stop, block, optimizer):
    monkeypatch.setattr("kd.training.batches.BLOCK", block)
    plan = dataclasses.replace(PLAN, optimizer=optimizer)
    whole = training(mnist, plan=plan)
    records = list(whole.records(lambda step: step == stop))

    first, part = training(mnist, plan=plan), []
    for record in first.records(lambda step: step == stop):
        part.append(record)
        if record.step == stop:
            break
    kept = save({key: value.contiguous() for key, value in first.state().items()})

    second = training(mnist, plan=plan)
    second.restore(load(kept))
    assert second.step == stop and second.seconds == first.seconds
    part += list(second.records(lambda step: step == stop))
    assert same(outcome(second), outcome(whole))
    assert without_time(part) == without_time(records)


@pytest.mark.parametrize(
    ("architecture", "augmentation"), [("cnn", "affine"), ("cnn", "jitter"), ("vit-half", "affine")]
)
def test_teacher_with_dropout_and_batch_norm_resumes_exactly(mnist, architecture, augmentation):
    few = dataclasses.replace(mnist, train=mnist.train.take(slice(0, 200)))
    plan = dataclasses.replace(PLAN, batch_size=50, augmentation=augmentation)
    whole = training(few, architecture, plan, teacher=False)
    list(whole.records())
    first, second = (training(few, architecture, plan, teacher=False) for _ in range(2))
    for _ in first.records(lambda step: step == 3):
        break
    torch.rand(5)  # other threads use the global random state
    second.restore(load(save({key: value.contiguous() for key, value in first.state().items()})))
    list(second.records())
    assert same(outcome(second), outcome(whole))


def test_live_changes_hold_after_resuming(mnist):
    def change(trained):
        records = trained.records(lambda step: step == 5)
        next(records)
        trained.settings.update(temperature=9.0)
        next(records)  # until the end of the first epoch
        return records

    whole = training(mnist)
    list(change(whole))
    first = training(mnist)
    change(first)
    second = training(mnist)
    second.restore(first.state())
    assert second.settings == {"temperature": 9.0, "soft_weight": 0.9}
    list(second.records())
    assert same(outcome(second), outcome(whole))


def test_different_seeds_give_different_weights(mnist):
    one, other = (training(mnist, plan=dataclasses.replace(PLAN, seed=seed)) for seed in (3, 4))
    list(one.records()), list(other.records())
    assert not same(outcome(one), outcome(other))


def test_state_of_another_training_is_refused(mnist):
    state = training(mnist).state()
    for other in (training(mnist, "linear"), training(mnist, "cnn-tiny")):
        with pytest.raises(ValueError, match="another training"):
            other.restore(state)
