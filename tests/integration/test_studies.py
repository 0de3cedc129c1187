"""Studies: trainings that become points, resuming them, and the findings that the lab shows."""

import functools
import statistics

import pytest

from kd.config.study import StudyConfig
from kd.data.digits import UNLABELLED
from kd.experiments import study
from kd.experiments.study import Study, StudyCell
from kd.jobs.manager import JobManager
from kd.models import registry
from kd.objectives import labels_only
from kd.store import runs
from kd.teachers import catalogue
from kd.training.loop import Learner, Plan, Training
from tests.helpers import Given, small_teacher, wait_until


def tiny(config, mnist, teacher):
    """Return three linear controls of one epoch, 8 steps each."""

    def start(seed):
        return Training(
            [Learner("control", registry.build("linear", seed), labels_only)],
            mnist,
            Plan(1, 128, 0.01, seed),
            {},
        )

    return [
        StudyCell(value, seed, 1, functools.partial(start, seed))
        for value, seed in [(10.0, 0), (10.0, 1), (5.0, 0)]
    ]


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setitem(study.STUDIES, "labels", tiny)


def points(rows):
    return [(row["value"], row["seed"], row["test control"]) for row in rows if "test control" in row]


def test_study_trainings_become_points(small, mnist):
    run = Study(StudyConfig(), mnist, small_teacher())
    records = list(run.records(lambda step: step % 4 == 0))
    assert [record.step for record in records] == [4, 8, 12, 16, 20, 24] and {
        record.steps for record in records
    } == {24}
    assert records[-1].epoch == 1 and [record.seconds for record in records] == sorted(
        record.seconds for record in records
    )
    rows = [record.row() for record in records]
    assert [(value, seed) for value, seed, _ in points(rows)] == [(10, 0), (10, 1), (5, 0)]
    # A point equals the result of the same training alone.
    alone = tiny(None, mnist, None)[2].start()
    list(alone.records())
    assert points(rows)[2][2] == study.accuracy(alone.learners[0].model, mnist.test)


def test_resumed_study_gives_the_same_points(small, mnist):
    run = Study(StudyConfig(), mnist, small_teacher())
    whole = points([record.row() for record in run.records()])
    for stop in (4, 8, 20):  # within the first training, between two, within the last
        first = Study(StudyConfig(), mnist, small_teacher())
        for record in first.records(lambda step: step % 4 == 0):
            if record.step == stop:
                break
        again = Study(StudyConfig(), mnist, small_teacher())
        list(again.records(state=first.training.state()))
        assert points(again.training.points) == whole
        assert again.training.step == again.training.steps


def test_curves_are_means_over_seeds_of_ended_trainings():
    rows = [
        {"value": 10.0, "seed": 0.0, "test control": 0.4},
        {"value": 10.0, "seed": 1.0, "test control": 0.6},
        {"value": 5.0, "test control": 0.3},
        {"value": 20.0, "validation control": 0.9},
    ]
    assert study.curves(rows)["control"] == [
        {"value": 5.0, "mean": 0.3, "sd": 0.0, "all": [0.3]},
        {
            "value": 10.0,
            "mean": pytest.approx(0.5),
            "sd": pytest.approx(statistics.stdev([0.4, 0.6])),
            "all": [0.4, 0.6],
        },
    ]


def test_worker_stores_the_points_of_a_study(small, mnist, home):
    manager = JobManager(Given(mnist), tick=0.0)
    try:
        id = manager.start(StudyConfig(seeds=1), "t" * 32)
        wait_until(lambda: not manager.snapshot(id).active)
        snap = manager.snapshot(id)
        assert (snap.state, snap.kind, snap.saved) == ("done", "study", True)
    finally:
        manager.close()
    run = runs.load(id)
    assert run.models == () and run.config == StudyConfig(seeds=1)
    assert study.curves(run.metrics()) == run.measures["curves"] == study.curves(list(snap.rows))


def test_label_budget_student_uses_no_labels(mnist):
    student, control, *_ = study.label_budget(StudyConfig(seeds=1), mnist, small_teacher())
    assert (student.value, control.value) == (study.NO_LABEL, 100)
    taught, told = student.start(), control.start()
    assert (taught.mnist.train.labels == UNLABELLED).all() and taught.teacher
    assert told.teacher is None and len(told.mnist.train) == len(mnist.train)
    ids = told.mnist.train.ids.unique()
    assert len(ids) == 100 and (told.mnist.train.labels != UNLABELLED).all()
    counts = study.labelled(mnist.train, 100, 0).labels.bincount()
    assert counts.tolist() == [10] * 10


def test_unlabelled_student_beats_control_with_100_labels(sample, monkeypatch):
    """Check the page's claim at small scale: 4,000 images, one seed, fewer steps for both."""
    monkeypatch.setattr(study, "BUDGETS", (100,))
    monkeypatch.setattr(study, "CONTROLS", {"control": "jitter"})
    monkeypatch.setattr(study, "FEW", 60_000)
    monkeypatch.setattr(study, "MANY", 60_000)
    run = Study(StudyConfig(seeds=1), sample, catalogue.load("cnn"))
    list(run.records())
    found = {who: curve[0]["mean"] for who, curve in study.curves(run.training.points).items()}
    print(found)
    assert found["student"] - found["control"] > 0.08


def test_wrong_labels_hurt_the_control_more(sample, monkeypatch):
    """Check the page's claim at small scale: 4,000 images, 60% of their labels wrong."""
    monkeypatch.setattr(study, "NOISE", (0.6,))
    monkeypatch.setattr(study, "NOISE_IMAGES", 24_000)
    run = Study(StudyConfig(study="noise", seeds=1), sample, catalogue.load("cnn"))
    list(run.records())
    found = {who: curve[0]["mean"] for who, curve in study.curves(run.training.points).items()}
    print(found)
    assert found["student"] > found["control"] + 0.05
