"""Jobs from their start to their end, and what pages may know of them."""

import dataclasses

import pytest
import torch

from kd.config.teacher import TeacherConfig
from kd.errors import UserError
from kd.models import inference
from kd.store import runs
from tests.helpers import small_teacher
from tests.jobs import LONG, ME, SHORT, directly, same_as, step, step_row, wait_for


def test_job_is_stored_at_its_end(manager, mnist):
    id = manager.start(SHORT, ME)
    snap = wait_for(manager, id, "done")
    assert (
        (snap.kind, snap.config, snap.message, snap.source) == ("distil", SHORT, "", "sample")
        and snap.saved
        and snap.mine
    )
    assert snap.steps == 20 and snap.rows[-1]["step"] == 20 and snap.rows[-1]["epoch"] == 2
    run = runs.load(id)
    assert (run.state, run.config, run.owner) == ("done", SHORT, runs.owner_digest(ME))
    assert tuple(run.metrics()) == snap.rows and run.measures == snap.measures
    assert set(run.measures["models"]) == {"teacher", "student", "control"}
    assert same_as(run, directly(SHORT, mnist))
    assert manager.active() == 0


def test_teacher_can_be_trained(manager):
    config = TeacherConfig(teacher="mlp-30", epochs=1, batch_size=100, augmentation="jitter")
    id = manager.start(config, ME)
    snap = wait_for(manager, id, "done")
    assert snap.kind == "teacher" and set(snap.measures["models"]) == {"teacher"}
    assert runs.load(id).config == config


def test_measures_are_those_of_the_stored_models_on_the_test_set(manager, mnist):
    id = manager.start(SHORT, ME)
    measures = wait_for(manager, id, "done").measures
    assert measures["data"] == mnist.digest and measures["test_images"] == 200 and measures["steps"] == 20
    for which in ("student", "control"):
        wrong = (
            inference.logits_in_chunks(runs.load(id).model(which), mnist.test.inputs()).argmax(1)
            != mnist.test.labels
        ).sum()
        assert measures["models"][which]["test_errors"] == wrong


def test_snapshot_version_grows_with_each_change(manager):
    id = manager.start(SHORT, ME, paused=True)
    versions = [wait_for(manager, id, "paused").version, step(manager, id).version]
    manager.change(id, ME, "temperature", 9)
    versions.append(step(manager, id).version)
    manager.resume(id, ME)
    versions.append(wait_for(manager, id, "done").version)
    assert versions == sorted(set(versions))


def test_unknown_job_has_no_snapshot_and_no_commands(manager):
    assert manager.snapshot("nobody") is None and manager.predict("nobody", torch.zeros(1, 1, 28, 28)) == {}
    with pytest.raises(UserError, match="no longer there"):
        manager.stop("nobody", ME)


def test_snapshot_cannot_be_changed(manager):
    id = manager.start(SHORT, ME, paused=True)
    snap = wait_for(manager, id, "paused")
    with pytest.raises(dataclasses.FrozenInstanceError):
        snap.state = "done"
    snap.settings["temperature"] = 1.0
    assert manager.snapshot(id).settings["temperature"] == 4.0


def test_start_without_a_token_is_refused(manager):
    for token in ("", None):
        with pytest.raises(UserError, match="reload the page"):
            manager.start(SHORT, token)


def test_start_with_an_unknown_teacher_is_refused(manager, monkeypatch):
    def unknown(name, device):
        raise UserError("There is no teacher called that.")

    monkeypatch.setattr("kd.teachers.catalogue.load", unknown)
    with pytest.raises(UserError, match="no teacher"):
        manager.start(SHORT, ME)
    assert manager.active() == 0


def test_start_with_a_teacher_without_feature_maps_is_refused(manager):
    with pytest.raises(
        UserError, match="The method attention compares feature maps .* but the teacher mlp-30 has none"
    ):
        manager.start(SHORT.replace(method="attention", student="cnn-tiny"), ME)
    assert not manager.active()


def test_number_of_remembered_finished_jobs_is_bounded(manager, monkeypatch):
    monkeypatch.setattr("kd.jobs.queue.MAX_REMEMBERED", 2)
    ids = []
    for _ in range(4):
        ids.append(manager.start(SHORT.replace(epochs=1), ME))
        wait_for(manager, ids[-1], "done")
    manager.start(LONG, ME)
    assert [manager.snapshot(id) is not None for id in ids] == [False, False, True, True]
    assert len(runs.list_runs()[0]) == 4


def test_thinned_rows_keep_the_newest_and_the_ends_of_epochs(manage, monkeypatch):
    monkeypatch.setattr("kd.jobs.job.MAX_ROWS", 12)
    manager = manage(tick=0.0)  # a record after each step
    id = manager.start(SHORT.replace(epochs=4), ME, paused=True)
    wait_for(manager, id, "paused")
    for count in range(1, 20):
        assert step_row(manager, id) == count
    manager.resume(id, ME)
    rows = wait_for(manager, id, "done").rows
    assert len(rows) <= 12 and [row["step"] for row in rows if row["whole_validation"]] == [10, 20, 30, 40]


def test_each_teacher_is_loaded_once_and_few_are_kept(manager, monkeypatch):
    loaded = []
    monkeypatch.setattr(
        "kd.teachers.catalogue.load", lambda name, device: loaded.append(name) or small_teacher()
    )
    for name in ("a", "a", "b", "c", "b", "d", "d", "a"):
        manager.teacher(name)
    assert loaded == ["a", "b", "c", "d", "a"] and len(manager._teachers._loaded) == 3
