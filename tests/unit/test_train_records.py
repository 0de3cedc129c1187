"""The training loop: records, changed settings, pauses and divergence."""

import dataclasses
import math
import types

import pytest

from kd.data.digits import Mnist
from kd.models import inference, registry
from kd.objectives import hinton
from kd.training import loop
from kd.training.learner import Learner
from kd.training.loop import Diverged, Training
from tests.helpers import identical, same, small_teacher, weights
from tests.training import PLAN, SETTINGS, always, fit, pair, run

# -- control from outside ------------------------------------------------------------------


def temperatures(mnist, plan=PLAN, between=lambda record: None):
    """Train and return the temperature at each step."""
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
        "the control must not use temperature or soft weight"
    )


def test_pause_changes_neither_weights_nor_counted_time(mnist, monkeypatch):
    clock = [0.0]

    def tick():
        clock[0] += 0.001
        return clock[0]

    monkeypatch.setattr(loop, "clock", types.SimpleNamespace(now=tick))
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


# -- records -------------------------------------------------------------------------------


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


# -- divergence ----------------------------------------------------------------------------


def not_a_number(student, teacher, labels, settings):
    return {"hard": student.logits.sum() * math.nan}


def spoils_the_weights(student, teacher, labels, settings):
    """Return a finite loss whose gradient is not finite."""
    return {"hard": (student.logits * 0).abs().sum().sqrt()}


@pytest.mark.parametrize("objective", [not_a_number, spoils_the_weights])
def test_training_ends_when_a_value_is_not_finite(mnist, objective):
    learner = Learner("student", registry.build("mlp-30", 0), objective)
    plan = dataclasses.replace(PLAN, epochs=1, batch_size=1000)
    with pytest.raises(Diverged, match=r"Training diverged after 1 steps .*; try a lower learning rate\."):
        list(fit([learner], mnist, plan, SETTINGS))


def test_diverged_training_keeps_weights_of_its_last_record(mnist):
    """A finite loss can lead to NaN weights; the next record must detect it and not be yielded."""
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
