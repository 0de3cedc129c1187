"""Searches: what was stopped goes on to the same trials, only validation images decide, and the best is a run like any other."""

import json
import shutil

import plotly.graph_objects as go
import pytest

from kd import __main__ as cli
from kd import checkpoints, data, runs, teacher
from kd.sweeps import search, search_figures
from kd.errors import UserError
from kd.sweeps.search_config import SearchConfig
from tests.helpers import Given, small_teacher

SMALL = SearchConfig(student="mlp-30", methods="hinton,mse", trials=12, epochs=2, batch_size=250)


@pytest.fixture(scope="module")
def searched(mnist, tmp_path_factory):
    """A search from start to end, and the folder where it is kept."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("searched") / "home"
        patch.setenv("KD_HOME", str(folder))
        return folder, search.search(SMALL, mnist, small_teacher())


@pytest.fixture
def found(searched, home):
    """What it came to; a copy of its folder is the home."""
    shutil.copytree(searched[0], home)
    return searched[1]


def proposed(found):
    return [(trial["params"], trial["state"], trial["value"]) for trial in found["trials"]]


def test_a_search_that_was_stopped_goes_on_to_the_same_trials(mnist, found, tmp_path, monkeypatch):
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
    assert min(after[:-1]) >= max(epochs), "what had ended was tried again"
    assert {trial["state"] for trial in found["trials"]} == {"complete", "pruned"}, "nothing was given up early"


def test_more_trials_go_on_from_those_that_are_there(mnist, found):
    tried = []
    more = search.search(SMALL.replace(trials=14), mnist, small_teacher(), lambda trial, record: tried.append(trial))
    assert proposed(more)[:12] == proposed(found) and len(more["trials"]) == 14 and min(tried) == 12


def test_the_best_is_chosen_by_validation_images_and_is_a_run(mnist, found):
    complete = [trial for trial in found["trials"] if trial["state"] == "complete"]
    best = max(complete, key=lambda trial: trial["value"])
    assert found["best"] == best["params"] | {"validation_accuracy": best["value"]}
    run = runs.load(found["run"])
    assert run.config == SMALL.distillation(best["params"])
    assert run.metrics()[-1]["validation student"] == pytest.approx(best["value"]), "trained again to other weights"
    assert found["models"]["student"] == run.measures["models"]["student"]
    fair = max(complete, key=lambda trial: trial["control"])
    assert found["tuned_control"]["learning_rate"] == fair["params"]["learning_rate"]
    assert runs.load(found["tuned_control"]["run"]).measures["models"]["control"] == found["models"]["tuned control"]


def test_test_images_are_read_once_and_after_the_last_trial(mnist, home, monkeypatch):
    from kd.experiment import Distillation

    order, real = [], Distillation.measures
    monkeypatch.setattr(Distillation, "measures", lambda self, last: order.append("test") or real(self, last))
    search.search(SMALL.replace(trials=3), mnist, small_teacher(), lambda trial, record: order.append(trial))
    assert 1 <= order.count("test") <= 2 and set(order[: order.index("test")]) >= {0, 1, 2}


def test_a_setting_that_a_method_does_not_read_is_not_proposed(found):
    for trial in found["trials"]:
        assert ("temperature" in trial["params"]) == (trial["params"]["method"] == "hinton")
    assert sum(found["importances"].values()) == pytest.approx(1) and "learning_rate" in found["importances"]


def test_it_is_told_in_words_and_drawn(found):
    told = search.said(found)
    assert f"it makes {found['models']['student']['test_errors']} errors" in told and "settings were tuned for the student, none for that control" in told
    for figure in (search_figures.history(found), search_figures.importances(found)):
        go.Figure(figure)
    hollow = search_figures.history(found)["data"][2]
    assert len(hollow["x"]) == sum(trial["state"] == "pruned" for trial in found["trials"])
    assert search.stored() == [json.loads(json.dumps(found))]


def test_one_search_runs_in_one_process_and_on_one_set_of_data(mnist, found):
    keeper = checkpoints.Keeper(f"search-{search.folder(SMALL).name}")
    keeper.claim()
    with pytest.raises(UserError, match="in training elsewhere"):
        search.search(SMALL, mnist, small_teacher())
    keeper.leave(ended=False)
    with pytest.raises(UserError, match="begun on other data or with another teacher"):
        search.search(SMALL, mnist, small_teacher(seed=1))


@pytest.mark.parametrize(
    "wrong, told",
    [
        ({"methods": "hinton,magic"}, "magic"),
        ({"methods": " , "}, "Methods must have at least one name"),
        ({"trials": 0}, "Trials must be between 1 and 1,000, not 0."),
        ({"labels": 5}, "Labels must be at least 10"),
        ({"student": "resnet"}, "There is no architecture called 'resnet'"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_a_sentence(wrong, told):
    with pytest.raises(UserError, match=told):
        SearchConfig(**wrong)


def test_the_command_prints_what_it_found(mnist, home, monkeypatch, capsys):
    monkeypatch.setattr(data, "Source", lambda: Given(mnist))
    monkeypatch.setattr(teacher, "load", lambda name, device="cpu": small_teacher())
    command = ["search", "--student", "mlp-30", "--trials", "2", "--epochs", "1"]
    assert cli.main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["command"] == "python -m kd search --trials 2 --epochs 1" and len(found["trials"]) == 2
    assert cli.main(command) == 0 and "The best of 2 trials" in capsys.readouterr().out
