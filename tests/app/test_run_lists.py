"""Which runs the pages list, choose and name: short, deleted and other people's runs, and hostile names."""

import pytest

from kd import paths
from kd.config.distil import DistilConfig
from kd.experiments.distil import Distillation
from kd.models import registry
from kd.store import checkpoints, runs
from kd.ui.shell import session_keys, shared
from tests.apps import TOKEN, said
from tests.helpers import MEASURES, wait_until

pytestmark = pytest.mark.app

CONFIG = DistilConfig(student="mlp-30", epochs=1)
ROW = {"step": 8, "epoch": 1.0, "seconds": 1.0, "images_per_second": 100.0, "whole_validation": 1.0}


@pytest.fixture
def store(app):
    """Return a function that stores a run of this visitor."""
    networks = {"student": registry.build("mlp-30", 1), "control": registry.build("mlp-30", 2)}

    def make(state="done", steps=8, name="", owner=TOKEN):
        measures = MEASURES | {"steps": steps, "train_images": 1000}
        owner = runs.owner_digest(owner)
        return runs.save(runs.new_id(), CONFIG, state, [ROW], networks, measures, owner, name=name)

    return make


def interrupted(owner):
    """Return the id of an interrupted run."""
    id = runs.new_id()
    keeper = checkpoints.Keeper(id, runs.owner_digest(owner))
    manager, config = shared.manager(), CONFIG.replace(epochs=2)
    experiment = Distillation(config, manager.source.mnist(), manager.teacher("cnn"))
    assert keeper.keep(experiment, config, [next(experiment.records()).row()]) == ""
    keeper.leave(ended=False)
    return id


@pytest.mark.parametrize("page", ["draw", "compress"])
def test_run_stopped_in_its_first_epoch_is_not_the_default(app, store, page):
    whole, brief = store(), store("stopped", steps=1)
    at = app(page)
    assert not at.exception and brief.brief and not whole.brief
    key = {"draw": "Model", "compress": "Network"}[page]
    assert next(box for box in at.selectbox if box.label == key).value == whole.id


def test_reset_after_one_step_leaves_no_run(app):
    at = app(student="linear", epochs="100")
    at.button(key="step").click().run()
    id = at.session_state[session_keys.RUN]
    wait_until(lambda: shared.manager().snapshot(id, TOKEN).rows, "the first step")
    at.run()
    at.button(key="reset").click().run()
    wait_until(lambda: shared.manager().snapshot(id, TOKEN) is None, "the run is gone")
    assert not at.exception and runs.list_runs() == ([], []) and not checkpoints.exists(id)


def test_interrupted_runs_of_others_come_last(app, store):
    theirs, mine = interrupted("x" * 32), interrupted(TOKEN)
    stored = store()
    at = app("runs")
    assert not at.exception
    assert list(at.dataframe[0].value["state"]) == ["interrupted", "done", "interrupted"]
    assert list(at.dataframe[0].value["yours"]) == ["✓", "✓", ""]
    assert at.selectbox(key="run_choice").value == mine
    checkpoints.discard(mine, TOKEN)
    assert app("runs").selectbox(key="run_choice").value == stored.id
    assert checkpoints.exists(theirs)


def test_deleted_run_does_not_come_back_after_a_reload(app):
    at = app(student="linear", epochs="1")
    at.button(key="start").click().run()
    id = at.session_state[session_keys.RUN]
    wait_until(lambda: not shared.manager().snapshot(id, TOKEN).active, "the end")
    assert "no longer there" not in said(app(run=id))
    runs.delete(id, TOKEN)
    at = app(run=id)
    assert not at.exception and "no longer there" in said(at) and at.session_state[session_keys.RUN] is None
    at = app("draw", run=id)
    assert not at.exception and "There is no student yet" in said(at)


def test_discarded_run_does_not_come_back_after_a_reload(app):
    at = app(student="linear", epochs="100", batch_size="1")
    at.button(key="start").click().run()
    id = at.session_state[session_keys.RUN]
    manager = shared.manager()
    wait_until(lambda: manager.snapshot(id, TOKEN).rows, "a record")
    with manager._changed:
        manager._queue.stop(manager._queue.jobs[id], "Ended because nobody was watching.")
        manager._changed.notify_all()
    wait_until(lambda: manager.snapshot(id, TOKEN).state == "interrupted", "the end")
    at = app(run=id)
    assert at.button(key="resume") and "nobody was watching" in said(at)
    checkpoints.discard(id, TOKEN)
    assert "no longer there" in said(app(run=id))


# -- names -----------------------------------------------------------------------------------------------


def test_too_long_name_is_refused_in_a_sentence(app, store):
    run = store(name="before")
    at = app("runs")
    assert not at.text_input(key=f"name_{run.id}").proto.max_chars, "a browser drops what is too long"
    at.text_input(key=f"name_{run.id}").set_value("x" * 61).run()
    assert "at most 60 characters; this one has 61" in said(at) and runs.load(run.id).name == "before"


def test_name_is_shown_as_it_is_and_downloaded_as_text(app, store):
    store(name="=1+1 :fire: *x*")
    for page, column in (("runs", "name"), ("compare", "run")):
        at = app(page)
        assert not at.exception and list(at.dataframe[0].value[column]) == ["'=1+1 :fire: *x*"]
    assert app("runs").header[0].value == "\\=1+1 \\:\u2060fire: \\*x\\*"


def test_pages_name_no_folder_of_the_server(app, store):
    run = store(owner=None)
    (store().folder / "measures.json").unlink()
    at = app("runs")
    assert str(paths.home()) not in said(at) and f"$KD_HOME/{run.id}" in said(at)


def test_unusable_device_is_named_on_the_page(app, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("KD_DEVICE", "banana")
        at = app()
    assert not at.exception and "KD_DEVICE is 'banana', on which PyTorch cannot compute here" in said(at)
