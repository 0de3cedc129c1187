"""Searches: resuming gives the same trials, validation images decide, and the best trial is a run."""

import errno
import json
import os
import shutil

import plotly.graph_objects as go
import pytest
from optuna.storages.journal import JournalFileBackend

from kd.cli import main as cli
from kd.config.search import SearchConfig
from kd.data import sources
from kd.errors import UserError
from kd.figures.search import history, importances
from kd.jobs.manager import JobManager
from kd.store import checkpoints, runs
from kd.sweeps import search, search_journal, search_results
from kd.teachers import catalogue
from tests.helpers import Given, small_teacher, wait_until

SMALL = SearchConfig(student="mlp-30", methods="hinton,mse", trials=12, epochs=2, batch_size=250)


@pytest.fixture(scope="module")
def searched(mnist, tmp_path_factory):
    """A complete search and its folder."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("searched") / "home"
        patch.setenv("KD_HOME", str(folder))
        return folder, search.search(SMALL, mnist, small_teacher())


@pytest.fixture
def found(searched, home):
    """The result of a search, whose folder is copied to the home."""
    shutil.copytree(searched[0], home)
    return searched[1]


def proposed(found):
    return [(trial["params"], trial["state"], trial["value"]) for trial in found["trials"]]


def test_stopped_search_continues_with_the_same_trials(mnist, found, tmp_path, monkeypatch):
    monkeypatch.setenv("KD_HOME", str(tmp_path / "stopped"))
    epochs = []

    def stop(trial, record):
        epochs.append(trial)
        if len(epochs) == 11:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search.search(SMALL, mnist, small_teacher(), stop)
    after = []
    again = search.search(SMALL, mnist, small_teacher(), lambda trial, record: after.append(trial))
    assert proposed(again) == proposed(found) and len(found["trials"]) == 12
    assert min(after[:-1]) >= max(epochs), "an ended trial ran again"
    assert {trial["state"] for trial in found["trials"]} == {"complete", "pruned"}, "nothing was pruned"


def test_more_trials_extend_a_search(mnist, found):
    tried = []
    more = search.search(
        SMALL.replace(trials=14), mnist, small_teacher(), lambda trial, record: tried.append(trial)
    )
    assert proposed(more)[:12] == proposed(found) and len(more["trials"]) == 14 and min(tried) == 12


def test_best_trial_is_chosen_on_validation_and_stored(mnist, found):
    complete = [trial for trial in found["trials"] if trial["state"] == "complete"]
    best = max(complete, key=lambda trial: trial["value"])
    assert found["best"] == best["params"] | {"validation_accuracy": best["value"]}
    run = runs.load(found["run"])
    assert run.config == SMALL.distillation(best["params"])
    assert run.metrics()[-1]["validation student"] == pytest.approx(best["value"]), (
        "trained again to other weights"
    )
    assert found["models"]["student"] == run.measures["models"]["student"]
    fair = max(complete, key=lambda trial: trial["control"])
    assert found["tuned_control"]["learning_rate"] == fair["params"]["learning_rate"]
    assert (
        runs.load(found["tuned_control"]["run"]).measures["models"]["control"]
        == found["models"]["tuned control"]
    )


def test_test_images_are_read_after_the_last_trial(mnist, home, monkeypatch):
    from kd.experiments.distil import Distillation

    order, real = [], Distillation.measures
    monkeypatch.setattr(Distillation, "measures", lambda self, last: order.append("test") or real(self, last))
    search.search(SMALL.replace(trials=3), mnist, small_teacher(), lambda trial, record: order.append(trial))
    assert 1 <= order.count("test") <= 2 and set(order[: order.index("test")]) >= {0, 1, 2}


def test_only_settings_that_a_method_reads_are_proposed(found):
    for trial in found["trials"]:
        assert ("temperature" in trial["params"]) == (trial["params"]["method"] == "hinton")
    assert sum(found["importances"].values()) == pytest.approx(1) and "learning_rate" in found["importances"]


def test_result_is_summarized_and_plotted(found):
    summary = search_results.summary(found)
    assert f"it makes {found['models']['student']['test_errors']} errors" in summary
    assert "settings were tuned for the student, none for that control" in summary
    for figure in (history(found), importances(found)):
        go.Figure(figure)
    hollow = history(found)["data"][2]
    assert len(hollow["x"]) == sum(trial["state"] == "pruned" for trial in found["trials"])
    assert search_results.stored() == [json.loads(json.dumps(found))]


def test_search_runs_in_one_process_per_teacher(mnist, found):
    at = search_journal.folder(SMALL, mnist, small_teacher())
    keeper = checkpoints.Keeper(f"search-{at.name}")
    keeper.claim()
    with pytest.raises(UserError, match="in training elsewhere"):
        search.search(SMALL, mnist, small_teacher())
    keeper.leave(ended=False)
    other = search.search(SMALL.replace(trials=2), mnist, small_teacher(seed=1))
    assert len(other["trials"]) == 2 and other["trials"][0]["value"] != found["trials"][0]["value"]
    (at / "study.journal").write_text("nothing that Optuna writes\n")
    with pytest.raises(UserError, match="is damaged"):
        search.search(SMALL, mnist, small_teacher())


def open_journal(home):
    home.mkdir()
    return search_journal.open_study(home)


def test_journal_works_without_symbolic_links(home, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "symlink", refuse)
    study = open_journal(home)
    study.tell(study.ask(), 0.5)
    assert search_journal.open_study(home).best_value == 0.5
    assert [path.name for path in home.iterdir()] == ["study.journal"]


@pytest.mark.parametrize(
    "error, told",
    [
        (OSError(errno.ENOSPC, "No space left on device"), "because the disk is full: free some space in"),
        (PermissionError(errno.EACCES, "Permission denied"), "cannot be written to: change its permissions"),
    ],
    ids=["full", "denied"],
)
def test_journal_that_cannot_be_written_is_not_called_damaged(home, monkeypatch, mnist, error, told):
    def fail(*_):
        raise error

    monkeypatch.setattr(JournalFileBackend, "append_logs", fail)
    with pytest.raises(UserError, match=told) as found:
        open_journal(home)
    assert "damaged" not in str(found.value) and "elete" not in str(found.value)


def test_disk_that_fills_up_during_a_search_is_reported(home, monkeypatch, mnist):
    real = JournalFileBackend.append_logs

    def fill(trial, record):
        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(JournalFileBackend, "append_logs", full)

    with pytest.raises(UserError, match="The search was not saved because the disk is full"):
        search.search(SMALL, mnist, small_teacher(), fill)
    monkeypatch.setattr(JournalFileBackend, "append_logs", real)


def test_lock_left_by_a_killed_process_is_named(home, monkeypatch):
    monkeypatch.setattr(search_journal, "STALE", 0.1)
    lock = home / "study.journal.lock"
    home.mkdir()
    lock.symlink_to("study.journal")
    with pytest.raises(UserError, match="is locked by .*study.journal.lock, left behind by a process"):
        search_journal.open_study(home)
    lock.unlink()
    assert search_journal.open_study(home).trials == []


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"methods": "hinton,magic"}, "magic"),
        ({"methods": " , "}, "Methods must have at least one name"),
        ({"trials": 0}, "Trials must be between 1 and 1,000, not 0."),
        ({"labels": 5}, "Labels must be at least 10"),
        ({"student": "resnet"}, "There is no architecture called 'resnet'"),
    ],
)
def test_invalid_search_is_refused(settings, message):
    with pytest.raises(UserError, match=message):
        SearchConfig(**settings)


def test_search_command_prints_the_result(mnist, home, monkeypatch, capsys):
    monkeypatch.setattr(sources, "Source", lambda: Given(mnist))
    monkeypatch.setattr(catalogue, "load", lambda name, device="cpu": small_teacher())
    command = ["search", "--student", "mlp-30", "--trials", "2", "--epochs", "1"]
    assert cli.main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["command"] == "python -m kd search --trials 2 --epochs 1" and len(found["trials"]) == 2
    assert cli.main(command) == 0 and "The best of 2 trials" in capsys.readouterr().out


# -- as a run of the app -----------------------------------------------------------------------

TOKEN = "t" * 32


@pytest.fixture
def manager(mnist, home, monkeypatch):
    monkeypatch.setattr(catalogue, "load", lambda name, device="cpu": small_teacher())
    found = JobManager(Given(mnist), tick=0.0)
    yield found
    found.close()


def over(manager, id):
    wait_until(lambda: not manager.snapshot(id).active, seconds=120)
    return manager.snapshot(id)


def test_worker_finds_the_same_as_the_command(manager, found):
    shutil.rmtree(search_journal.folder(SMALL, manager.source.mnist(), small_teacher()))
    id = manager.start(SMALL, TOKEN)
    snap = over(manager, id)
    assert (snap.state, snap.message, snap.saved) == ("done", "", True)
    came_to = runs.load(id).measures["search"]
    assert proposed(came_to) == proposed(found) and came_to["best"] == found["best"]
    assert {name: came_to["models"][name]["test_errors"] for name in came_to["models"]} == {
        name: found["models"][name]["test_errors"] for name in found["models"]
    }
    assert runs.load(came_to["run"]).owner == runs.owner_digest(TOKEN) and snap.rows[-1]["step"] == snap.steps
    steps = [row["step"] for row in snap.rows]
    assert steps == sorted(steps)
    trials = search_results.read(SMALL, snap.rows)
    assert [(trial["params"], trial["state"]) for trial in trials] == [
        (trial["params"], trial["state"]) for trial in found["trials"]
    ]
    assert search_results.best(trials)["number"] == max(
        range(12), key=lambda i: (found["trials"][i]["state"] == "complete", found["trials"][i]["value"])
    )
    # The same search again has nothing to train, and is stored as a run too.
    again = over(manager, manager.start(SMALL, TOKEN))
    assert (
        again.state == "done"
        and again.measures["search"]["run"] == came_to["run"]
        and len(search_results.read(SMALL, again.rows)) == 12
    )


def test_worker_pauses_stops_and_continues_a_search(manager):
    config = SMALL.replace(trials=6)
    id = manager.start(config, TOKEN, paused=True)
    manager.step(id, TOKEN)
    wait_until(lambda: manager.snapshot(id).state == "paused" and manager.snapshot(id).rows)
    assert [row["step"] for row in manager.snapshot(id).rows] == [1], "one optimizer step of the first trial"
    manager.resume(id, TOKEN)
    wait_until(lambda: manager.snapshot(id).rows[-1]["trial"] >= 2)
    manager.stop(id, TOKEN)
    assert over(manager, id).state == "stopped"
    stopped = runs.load(id).measures["search"]
    assert len(stopped["trials"]) >= 2 and "models" not in stopped and "run" not in stopped
    assert "so far" in search_results.summary(stopped)
    whole = over(manager, manager.start(config, TOKEN)).measures["search"]
    assert proposed(whole)[: len(stopped["trials"])] == proposed(stopped) and len(whole["trials"]) == 6


def test_interrupted_search_resumes_from_its_checkpoint(mnist, home, manager, monkeypatch):
    config = SMALL.replace(trials=4)
    id = manager.start(config, TOKEN)
    wait_until(lambda: manager.snapshot(id).rows and manager.snapshot(id).rows[-1]["trial"] >= 1)
    manager.close()  # as when the server is told to end
    assert checkpoints.exists(id)
    after = JobManager(Given(mnist), tick=0.0)
    try:
        after.resume(id, TOKEN)
        snap = over(after, id)
        assert snap.state == "done" and len(runs.load(id).measures["search"]["trials"]) == 4
        assert [trial["number"] for trial in search_results.read(config, snap.rows)] == [0, 1, 2, 3]
    finally:
        after.close()


def test_visitors_cannot_start_very_long_searches(manager):
    with pytest.raises(UserError, match="at most 100 trials, not 101"):
        manager.start(SMALL.replace(trials=101), TOKEN)
    with pytest.raises(UserError, match="at most 1,000"):
        manager.start(SMALL.replace(trials=100, epochs=11), TOKEN)
    assert manager.active() == 0


def test_diverged_trial_counts_as_pruned(monkeypatch):
    def row(trial, state, value, whole=1.0):
        return {
            "trial": trial,
            "state": state,
            "again": 0.0,
            "whole_validation": whole,
            "validation student": value,
            "validation control": value,
            "setting method": 1.0,
            "setting learning_rate": 0.01,
        }

    rows = [row(0, 0, 0.5), row(0, 1, 0.9), row(1, 0, 0.3, 0.0), row(2, 0, 0.4)]
    trials = search_results.read(SMALL, rows)
    assert [(trial["state"], trial["value"]) for trial in trials] == [
        ("complete", 0.9),
        ("pruned", None),
        ("running", 0.4),
    ]
    assert trials[0]["params"] == {"method": "mse", "learning_rate": 0.01}
    assert search_results.best(trials) is trials[0]
    figure = history({"trials": trials})
    go.Figure(figure)
    assert [trace["name"] for trace in figure["data"]] == [
        "best so far",
        "complete",
        "pruned",
        "running",
    ]
    go.Figure(history({"trials": []}))
