"""The training loop: the same seed gives the same weights."""

import dataclasses
import threading

import pytest
import torch

from kd.config.distil import DistilConfig
from kd.experiments.distil import Distillation
from kd.models import registry
from kd.training import batches
from kd.training.loop import Training
from tests.helpers import identical, same, small_teacher, weights
from tests.training import PLAN, SETTINGS, TeacherSpy, always, control_alone, pair, run

# -- reproducibility -----------------------------------------------------------------------


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
    """A resumed training starts at another block and must get the same teacher logits."""
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
