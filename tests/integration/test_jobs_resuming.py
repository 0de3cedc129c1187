"""Interrupted runs: their checkpoints, and resuming from them."""

import atexit
import dataclasses
import shutil

import pytest

from kd import paths
from kd.config.teacher import TeacherConfig
from kd.errors import UserError
from kd.experiments import teacher
from kd.jobs.manager import JobManager
from kd.jobs.queue import MAX_PER_OWNER
from kd.models import registry
from kd.store import checkpoints, runs
from tests.helpers import Given, small_teacher, threads, wait_until, weights
from tests.jobs import (
    LONG,
    ME,
    MIDDLE,
    OTHER,
    SHORT,
    directly,
    pause_after,
    same_as,
    step,
    wait_for,
    wait_for_rows,
)


@pytest.mark.parametrize("rows", [55, 120])
def test_killed_run_resumes_to_the_same_weights(manage, mnist, home, tmp_path, monkeypatch, often, rows):
    first = manage(tick=0.0)
    id = first.start(MIDDLE, ME)
    wait_for_rows(first, id, 5)
    first.change(id, ME, "temperature", 9)
    wait_for_rows(first, id, rows)
    # A kill leaves the folder as it is at that moment, and locks that no process holds.
    shutil.copytree(home, tmp_path / "left", ignore=shutil.ignore_patterns("*.tmp"))
    first.stop(id, ME)
    wait_for(first, id, "stopped")
    monkeypatch.setenv("KD_HOME", str(tmp_path / "left"))
    kept = checkpoints.load(id)
    assert 50 <= kept.rows[-1]["step"] < 150 and kept.config.schedule[0][1:] == ("temperature", 9.0)
    second = manage(tick=0.0)
    second.resume(id, ME)
    assert second.snapshot(id).rows[: len(kept.rows)] == tuple(kept.rows)
    snap = wait_for(second, id, "done")
    run = runs.load(id)
    assert (run.state, run.owner, run.config) == ("done", runs.owner_digest(ME), kept.config) and snap.mine
    assert same_as(run, directly(kept.config, mnist)) and run.measures["steps"] == 150
    assert [row["step"] for row in run.metrics()] == sorted({row["step"] for row in run.metrics()})
    assert [path.name for path in paths.home().iterdir()] == [id]


def test_paused_run_resumes_with_the_change_that_was_pending(manage, mnist):
    first = manage()
    id = pause_after(first, SHORT.replace(schedule="3:temperature=2"))
    first.change(id, ME, "temperature", 11)
    first.close()
    second = manage()
    second.resume(id, ME)
    wait_for(second, id, "done")
    run = runs.load(id)
    assert run.config.schedule == ((3, "temperature", 2.0), (3, "temperature", 11.0))
    assert same_as(run, directly(run.config, mnist))
    assert not same_as(run, directly(SHORT.replace(schedule="3:temperature=2"), mnist))


def test_teacher_resumes_to_the_same_weights(manage, mnist):
    config = TeacherConfig(teacher="mlp-30", epochs=2, batch_size=100, augmentation="jitter")
    first = manage()
    id = pause_after(first, config)
    first.close()
    second = manage()
    second.resume(id, ME)
    wait_for(second, id, "done")
    whole = teacher.TeacherTraining(config, mnist)
    for _ in whole.records():
        pass
    assert same_as(runs.load(id), {"teacher": weights(whole.trained["teacher"])})


def test_resumed_run_predicts_at_once_and_can_be_stopped(manage, mnist):
    first = manage()
    id = pause_after(first, LONG)
    inputs = mnist.test.inputs()[:4]
    before = first.predict(id, inputs)
    first.close()
    second = manage()
    second.resume(id, ME)
    answers = wait_until(lambda: second.predict(id, inputs), "an answer")
    assert set(answers) == set(before)
    second.stop(id, ME)
    assert wait_for(second, id, "stopped").saved and not checkpoints.exists(id)


def test_resumed_run_stopped_while_it_waits_stays_interrupted(manage, home):
    first = manage()
    id = pause_after(first, LONG)
    first.close()
    content = (home / f"{id}.checkpoint").read_bytes()
    second = manage()
    second.start(LONG, OTHER)
    second.resume(id, ME)
    assert second.snapshot(id).state == "queued"
    second.stop(id, ME)
    assert second.snapshot(id).state == "interrupted" and (home / f"{id}.checkpoint").read_bytes() == content
    assert [kept.id for kept in checkpoints.list_interrupted()[0]] == [id]
    second.resume(id, ME)
    assert second.snapshot(id).state == "queued"


def test_refused_resume_changes_nothing(manage):
    first = manage()
    id = pause_after(first, LONG)
    first.close()
    second = manage()
    for _ in range(MAX_PER_OWNER):
        second.start(LONG, ME, paused=True)
    with pytest.raises(UserError, match="You already have 3 runs under way"):
        second.resume(id, ME)
    assert second.snapshot(id) is None and [kept.id for kept in checkpoints.list_interrupted()[0]] == [id]


def test_only_the_owner_resumes_or_discards_an_interrupted_run(manage):
    first = manage()
    id = pause_after(first, LONG)
    first.close()
    second = manage()
    for token in (OTHER, "", None, runs.owner_digest(ME)):
        for command in (second.resume, checkpoints.discard):
            with pytest.raises(
                UserError, match="Only the person who started this run can resume or discard it"
            ):
                command(id, token)
    checkpoints.discard(id, ME)
    with pytest.raises(UserError, match="There is no unfinished run"):
        second.resume(id, ME)
    assert not list(paths.home().iterdir())


def test_two_servers_never_train_the_same_run(manage, often):
    first, second = manage(), manage()
    id = pause_after(first, LONG)
    assert checkpoints.in_training(id) and checkpoints.list_interrupted() == ([], [])
    for command in (second.resume, checkpoints.discard):
        with pytest.raises(
            UserError, match="being trained by another process that uses the same folder: a server or the"
        ):
            command(id, ME)
    first.close()
    assert not checkpoints.in_training(id)
    second.resume(id, ME)
    wait_for_rows(second, id, 4)


def test_ended_run_leaves_no_checkpoint(manager, home, often):
    done = manager.start(SHORT, ME)
    wait_for(manager, done, "done")
    stopped = pause_after(manager, LONG)
    manager.stop(stopped, ME)
    wait_for(manager, stopped, "stopped")
    assert {path.name for path in home.iterdir()} == {done, stopped}


def test_checkpoint_that_does_not_fit_is_refused_and_stays(manage, mnist, home, monkeypatch):
    first = manage()
    id = pause_after(first, LONG)
    first.close()
    path = home / f"{id}.checkpoint"
    content = path.read_bytes()
    second = manage()
    with monkeypatch.context() as other:
        other.setattr(
            second.source, "_mnist", dataclasses.replace(mnist, train=mnist.train.take(slice(0, 500)))
        )
        with pytest.raises(UserError, match="was started with different data. Set KD_DATA_DIR"):
            second.resume(id, ME)
    second._teachers._loaded.clear()
    with monkeypatch.context() as other:
        other.setattr("kd.teachers.catalogue.load", lambda name, device="cpu": small_teacher(seed=8))
        with pytest.raises(
            UserError, match="weights of this run's teacher have changed since the run was started"
        ):
            second.resume(id, ME)
    second._teachers._loaded.clear()
    with monkeypatch.context() as other:
        other.setattr(checkpoints, "READABLE", (99,))
        with pytest.raises(UserError, match="was written by another version of the program"):
            second.resume(id, ME)
    path.write_bytes(content[:-100])
    with pytest.raises(UserError, match="is damaged and cannot be resumed"):
        second.resume(id, ME)
    path.write_bytes(content)
    second.resume(id, ME)
    wait_for_rows(second, id, 4)


def test_weights_that_do_not_fit_are_refused_and_stay(manage, monkeypatch):
    first = manage()
    id = pause_after(first, LONG)
    first.close()
    real = registry.build
    monkeypatch.setattr(
        registry, "build", lambda name, seed: real("linear" if seed == LONG.seed else name, seed)
    )
    second = manage()
    second.resume(id, ME)
    snap = wait_for(second, id, "interrupted")
    assert "another version of the program" in snap.message and checkpoints.exists(id)
    monkeypatch.setattr(registry, "build", real)
    second.resume(id, ME)
    wait_for_rows(second, id, 4)


def test_close_keeps_checkpoints_and_ends_the_thread(manage, home):
    manager = manage(patience=0.0)
    gave_way = manager.start(LONG, ME, paused=True)
    wait_for(manager, gave_way, "paused")
    step(manager, gave_way)
    never_began = manager.start(LONG, OTHER, paused=True)
    wait_for(manager, never_began, "paused")
    training = manager.start(LONG, OTHER)
    wait_for_rows(manager, training)
    worker = threads("kd-worker")[0]
    manager.close()
    assert not worker.is_alive()
    assert runs.list_runs() == ([], []) and {path.name for path in home.iterdir()} == {
        f"{id}.checkpoint" for id in (gave_way, training)
    }
    found, problems = checkpoints.list_interrupted()
    assert {kept.id for kept in found} == {gave_way, training} and not problems
    with pytest.raises(UserError, match="shutting down"):
        manager.start(SHORT, ME)


def test_close_needs_no_job_and_may_be_repeated(manage):
    manager = manage()
    manager.close()
    manager.close()


def test_process_exit_closes_the_manager(alone, mnist, monkeypatch):
    at_exit = []
    monkeypatch.setattr(atexit, "register", at_exit.append)
    manager = JobManager(Given(mnist), lease=None)
    id = manager.start(LONG, ME)
    wait_for_rows(manager, id)
    (end,) = at_exit
    end()
    assert not threads("kd-worker") and checkpoints.exists(id)
