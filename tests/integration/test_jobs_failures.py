"""Jobs that fail, diverge or cannot be stored."""

import dataclasses
import errno

import pytest
import torch

from kd.errors import UserError
from kd.experiments import distil
from kd.experiments.distil import Distillation
from kd.store import checkpoints, runs
from kd.training import loop
from tests.helpers import wait_until, weights
from tests.jobs import ME, SHORT, directly, pause_after, same_as, step, wait_for


def test_program_error_is_plain_and_the_next_job_runs(manager, monkeypatch, caplog):
    real = Distillation.__init__

    def failing(self, config, *args):
        if config.seed == 13:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
        real(self, config, *args)

    monkeypatch.setattr(Distillation, "__init__", failing)
    id, following = manager.start(SHORT.replace(seed=13), ME), manager.start(SHORT, ME)
    wait_for(manager, following, "done")
    snap = manager.snapshot(id)
    assert (snap.state, snap.saved) == ("failed", False)
    assert (
        snap.message
        == "Training failed because of an error in the program. The server's log has the details."
    )
    assert "mat1 and mat2" in caplog.text and [run.id for run in runs.list_runs()[0]] == [following]


def test_impossible_experiment_is_refused_with_a_reason(manager):
    id = manager.start(SHORT.replace(batch_size=4096), ME)
    following = manager.start(SHORT, ME)
    snap = wait_for(manager, id, "failed")
    assert (
        snap.message == "Batch size is 4,096, but there are only 1,000 training images; choose a smaller one."
    )
    wait_for(manager, following, "done")


def test_divergence_before_the_first_record_stores_nothing(manager, monkeypatch):
    def spoiled(student, *_):
        return {"soft": student.logits.sum() * float("nan")}

    monkeypatch.setitem(
        distil.METHODS, "hinton", dataclasses.replace(distil.METHODS["hinton"], objective=spoiled)
    )
    id = manager.start(SHORT, ME)
    assert "try a lower learning rate" in wait_for(manager, id, "failed").message
    manager.save_again(id, ME)
    assert runs.list_runs() == ([], [])


def test_diverged_run_is_stored_as_of_its_last_record(manager, mnist, home):
    id = pause_after(manager, SHORT)
    inputs = mnist.test.inputs()
    good = manager.predict(id, inputs)
    manager._queue.jobs[id].experiment.training._training.learners[0].objective = lambda student, *_: {
        "soft": student.logits.sum() * float("nan")
    }
    manager.resume(id, ME)
    snap = wait_for(manager, id, "stopped")
    run = runs.load(id)
    assert snap.saved and snap.message == run.message
    assert (
        "diverged" in run.message
        and "lower learning rate" in run.message
        and run.message.endswith("The networks of step 3 are kept.")
    )
    published = manager._queue.jobs[id].published.models
    assert same_as(run, {which: weights(model) for which, model in published.items()})
    assert all(torch.equal(said, good[which]) for which, said in manager.predict(id, inputs).items())
    assert [path.name for path in home.iterdir()] == [id], (
        "no checkpoint is kept: a resumed run would diverge again"
    )
    wait_for(manager, manager.start(SHORT, ME), "done")


def test_unstored_run_can_be_stored_later(manager, monkeypatch, mnist):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(runs, "save_file", full)
        id = manager.start(SHORT, ME)
        snap = wait_for(manager, id, "done")
        assert not snap.saved and "the disk is full" in snap.message and snap.measures
        with pytest.raises(UserError, match="the disk is full"):
            manager.save_again(id, ME)
        assert not manager.snapshot(id).saved
    manager.save_again(id, ME)
    snap = manager.snapshot(id)
    assert (snap.state, snap.saved, snap.message) == ("done", True, "")
    assert same_as(runs.load(id), directly(SHORT, mnist))


def test_failed_checkpoint_is_reported_and_training_continues(manager, mnist, monkeypatch, caplog, often):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(checkpoints, "save_file", full)
        id = manager.start(SHORT, ME, paused=True)
        wait_for(manager, id, "paused")
        for _ in range(3):
            message = step(manager, id).message
        assert message.startswith("A checkpoint was not saved because the disk is full: free some space in")
        assert message.endswith("Training continues, but unsaved progress is lost if the server stops.")
        assert caplog.text.count("the disk is full") == 1 and not checkpoints.exists(id)
    step(manager, id)
    wait_until(
        lambda: manager.snapshot(id).message == "" and checkpoints.exists(id), "a checkpoint, and silence"
    )
    manager.resume(id, ME)
    wait_for(manager, id, "done")
    assert same_as(runs.load(id), directly(SHORT, mnist))


def test_failed_run_with_a_checkpoint_can_be_resumed(manager, monkeypatch, mnist):
    id = pause_after(manager, SHORT)
    with monkeypatch.context() as broken:
        broken.setattr(loop.Training, "_train", lambda *_: 1 / 0)
        manager.resume(id, ME)
        snap = wait_for(manager, id, "interrupted")
    assert "error in the program" in snap.message and snap.message.endswith(
        "Resume continues from its last checkpoint."
    )
    manager.resume(id, ME)
    wait_for(manager, id, "done")
    assert same_as(runs.load(id), directly(SHORT, mnist))
