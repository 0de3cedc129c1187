"""Cached results follow the data: MNIST may arrive while the app already shows the sample."""

import dataclasses

import pytest

from kd.config.distil import DistilConfig
from kd.models import registry
from kd.store import runs
from kd.ui.run import snapshots
from kd.ui.shell import shared, visitor
from tests.apps import TOKEN
from tests.helpers import MEASURES

pytestmark = pytest.mark.app


@pytest.fixture
def snap(app, monkeypatch):
    """Return a stored run that left out a digit, in an app that shows the sample."""
    app()
    monkeypatch.setattr(visitor, "token", lambda: TOKEN)
    trained = {"student": registry.build("mlp-30", 1), "control": registry.build("mlp-30", 2)}
    config = DistilConfig(student="mlp-30", epochs=1, omitted="3")
    return snapshots.find(runs.save(runs.new_id(), config, "done", [], trained, MEASURES).id)


@pytest.fixture
def arrived(mnist, monkeypatch):
    """Return a function after which the app has other data, with fewer images."""

    def arrive():
        judged = mnist.test.take(slice(0, 70))
        other = dataclasses.replace(mnist, validation=judged, test=judged, source="full")
        monkeypatch.setattr(shared.manager().source, "_mnist", other)
        return other

    return arrive


def test_logits_of_a_run_follow_the_data(snap, arrived):
    from kd.ui.lab import never_saw  # not before the app runs, for its canvas

    for part in ("test", "validation"):
        assert len(never_saw._logits(snap.id, snap.version, part, shared.source(), snap)["student"]) == 200
    before = never_saw._test_errors(snap.id, shared.source(), snap)
    other = arrived()
    assert len(never_saw._logits(snap.id, snap.version, "test", shared.source(), snap)["student"]) == 70
    assert len(never_saw._labels("test")) == len(other.test)
    assert never_saw._test_errors(snap.id, shared.source(), snap) != before


def test_other_cached_results_follow_the_data(snap, arrived):
    from kd.ui.drawing import page
    from kd.ui.lab import fidelity, shift

    def found():
        source = shared.source()
        groups = fidelity._groups(snap.id, snap.version, "validation", source, snap)
        return [
            int(groups["student"][:, 0].sum()),
            max(page._most_disagreed(snap.id, "cnn", source)),
            shift._teacher("cnn", "rotated", 200, source),
            shift._students(snap.id, snap.version, "rotated", 200, source, snap),
        ]

    before = found()
    other = arrived()
    after = found()
    assert (before[0], after[0]) == (200, len(other.test)) and after[1] < len(other.test)
    assert before[2] != after[2] and before[3] != after[3]
