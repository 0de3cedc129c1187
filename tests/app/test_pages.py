"""Every page in Streamlit's own test harness: first visit, links good and bad, runs whole and damaged."""

import json
import secrets
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from kd import checkpoints, data, runs
from kd.config import DistilConfig
from kd.experiment import Distillation
from kd.ui import keys, state

pytestmark = pytest.mark.app
APP = str(Path(__file__).parents[2] / "app.py")
TOKEN = secrets.token_urlsafe(24)


@pytest.fixture
def app(monkeypatch, tmp_path, mnist):
    """Opens the app at a page with a query, on a small MNIST; the worker is stopped afterwards."""
    monkeypatch.setenv("KD_HOME", str(tmp_path / "runs"))

    class Small(data.Source):
        def __init__(self):
            super().__init__(tmp_path / "nothing", command=lambda folder: ["false"])
            self.wait()
            self._mnist = mnist

    st.cache_resource.clear()
    st.cache_data.clear()
    monkeypatch.setattr(data, "Source", Small)

    def open_at(page: str | None = None, **query: str) -> AppTest:
        at = AppTest.from_file(APP, default_timeout=60)
        at.session_state[keys.OWNER] = TOKEN
        for name, value in query.items():
            at.query_params[name] = value
        at.run()
        if page:
            at.switch_page(f"pages/{page}.py").run()
        return at

    yield open_at
    state.manager().close()
    st.cache_resource.clear()


@pytest.fixture
def stored(app, mnist):
    """A finished run of this visitor."""
    config = DistilConfig(student="mlp-30", epochs=1, temperature=8.0, schedule=((3, "temperature", 2.0),))
    experiment = Distillation(config, mnist, state.manager().teacher("cnn"))
    rows, last = [], None
    for last in experiment.records():
        rows.append(last.row())
    return runs.save(runs.new_id(), config, "done", rows, experiment.trained, experiment.measures(last), runs.owner_digest(TOKEN))


@pytest.fixture
def interrupted(app, mnist):
    """A run of this visitor that a server's end cut short after the first of two epochs."""
    config = DistilConfig(student="mlp-30", epochs=2, temperature=8.0, schedule=((3, "temperature", 2.0),))
    experiment = Distillation(config, mnist, state.manager().teacher("cnn"))
    keeper = checkpoints.Keeper(runs.new_id(), runs.owner_digest(TOKEN))
    assert keeper.keep(experiment, config, [next(experiment.records()).row()]) == ""
    keeper.leave(ended=False)
    return checkpoints.list_interrupted()[0][0].id


def said(at: AppTest) -> str:
    return " ".join(element.value for kind in (at.error, at.warning, at.info, at.markdown, at.caption) for element in kind)


@pytest.mark.parametrize("page", [None, "draw", "runs"])
def test_a_first_visit_shows_every_page_without_an_error(app, page):
    at = app(page)
    assert not at.exception and not at.error
    assert at.title


def test_the_sample_is_labelled_and_a_retry_is_offered(app):
    at = app()
    assert "5,000 real MNIST images" in said(at) and "its recipe was chosen on them" in said(at)
    assert at.button(key="retry_download")


def test_a_link_restores_every_setting(app):
    at = app(student="mlp-64-32", temperature="7.5", soft_weight="0.25", epochs="3", batch_size="64", learning_rate="0.01", seed="9")
    assert not at.error
    config = DistilConfig.from_dict(at.session_state[keys.SETTINGS]["distil"])
    assert config == DistilConfig(
        student="mlp-64-32", temperature=7.5, soft_weight=0.25, epochs=3, batch_size=64, learning_rate=0.01, seed=9
    )
    assert at.slider(key="distil_width0").value == 64 and at.slider(key="distil_width1").value == 32


@pytest.mark.parametrize(
    "query, words",
    [
        ({"temperature": "1e9"}, "Temperature must be between 1 and 20"),
        ({"temperature": "nan"}, "Temperature must be a number"),
        ({"student": "mlp-99999999"}, "1 to 2048 units"),
        ({"student": "<script>alert(1)</script>"}, "There is no architecture"),
        ({"epochs": "-3"}, "Epochs must be between"),
        ({"teacher": "nobody"}, "There is no teacher"),
        ({"run": "../../etc"}, "not a run's id"),
        ({"run": "20200101-000000-0123456789abcdef"}, "no longer there"),
    ],
)
def test_a_bad_link_is_told_in_one_sentence_and_the_page_still_works(app, query, words):
    at = app(**query)
    assert not at.exception
    assert words in said(at)
    assert at.button(key="start")


def test_a_preset_fills_in_the_settings(app):
    at = app()
    at.selectbox(key=keys.PRESET).set_value("Hinton 2015").run()
    assert at.session_state[keys.SETTINGS]["distil"]["student"] == "mlp-800x2"
    assert at.slider(key="distil_temperature").value == 20.0


def test_start_queues_a_run_of_this_visitor_and_the_link_finds_it(app):
    at = app(student="linear", epochs="1")
    at.button(key="start").click().run()
    assert not at.exception
    run_id = at.session_state[keys.RUN]
    assert at.query_params["run"] in (run_id, [run_id])
    assert state.manager().snapshot(run_id, TOKEN).mine
    assert not state.manager().snapshot(run_id, "x" * 32).mine


def test_a_stored_run_opens_with_its_curves_result_and_settings(app, stored):
    at = app(run=stored.id)
    assert not at.exception
    assert [metric.label.split()[-1] for metric in at.metric] == ["teacher", "student", "control"]
    assert at.slider(key="distil_temperature").value == 8.0
    assert "after step 3 temperature → 2" in said(at)


def test_a_damaged_run_is_named_and_the_others_are_still_listed(app, stored):
    broken = runs.home() / runs.new_id()
    broken.mkdir()
    (broken / "config.json").write_text("{")
    at = app("runs")
    assert not at.exception
    assert broken.name in said(at)
    assert len(at.dataframe[0].value) == 1


def test_metrics_that_cannot_be_read_are_told_and_lose_nothing(app, stored):
    (stored.folder / "metrics.csv").write_bytes(b"\x00\xff")
    at = app(run=stored.id)
    assert not at.exception and "metrics" in said(at)
    assert json.loads((stored.folder / "measures.json").read_text())["models"]["student"]


def labels(at: AppTest) -> list[str]:
    return [button.label for button in at.button]


def test_an_interrupted_run_is_told_and_its_owner_resumes_it(app, interrupted):
    at = app(run=interrupted)
    assert not at.exception and not at.error
    assert "This run was interrupted by the server's end or by an error. It is kept as of epoch 1.00 of 2." in said(at)
    assert at.slider(key="distil_temperature").value == 8.0 and "after step 3 temperature → 2" in said(at)
    assert "Discard it" in labels(at) and "Start" not in labels(at)
    assert at.button(key="step").disabled
    at.button(key="resume").click().run()
    assert not at.exception and not at.error
    assert state.manager().snapshot(interrupted, TOKEN).mine and "interrupted by" not in said(at)


def test_an_interrupted_run_is_discarded_by_its_owner(app, interrupted):
    at = app(run=interrupted)
    at.button(key="discard").click().run()
    assert not at.exception and "was discarded" in " ".join(element.value for element in at.success)
    assert not checkpoints.exists(interrupted) and at.session_state[keys.RUN] is None and "Start" in labels(at)


def test_others_see_an_interrupted_run_but_cannot_command_it(app, interrupted):
    at = app()
    at.session_state[keys.OWNER] = "x" * 32
    at.session_state[keys.RUN] = interrupted
    at.run()
    assert "Only the person who started it can resume it" in said(at)
    assert not {"Resume", "Discard it"} & set(labels(at)) and "Start" in labels(at)


def test_a_run_in_training_in_another_process_is_told_and_not_offered(app, interrupted):
    keeper = checkpoints.Keeper(interrupted)
    keeper.claim()
    at = app(run=interrupted)
    keeper.leave(ended=False)
    assert not at.exception and "in training elsewhere" in said(at)
    assert not {"Resume", "Discard it"} & set(labels(at))


def test_the_runs_page_lists_an_interrupted_run(app, stored, interrupted):
    at = app("runs")
    assert not at.exception
    assert list(at.dataframe[0].value["state"]) == ["interrupted", "done"]
    assert "interrupted by the server's end" in said(at) and {"Open, to resume it", "Discard it"} <= set(labels(at))
    at.button(key="open").click().run()
    assert at.session_state[keys.RUN] == interrupted


def test_a_damaged_checkpoint_is_named_and_the_others_are_still_listed(app, stored, interrupted):
    path = runs.home() / f"{interrupted}.checkpoint"
    path.write_bytes(path.read_bytes()[:500])
    at = app("runs")
    assert not at.exception and f"The checkpoint {path} is damaged" in said(at) and len(at.dataframe[0].value) == 1
    at = app(run=interrupted)
    assert not at.exception and "is damaged" in said(at) and at.button(key="start")
