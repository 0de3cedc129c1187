"""The Sweep page in Streamlit's own test harness."""

import pytest

from kd import runs
from kd.sweeps.grid_config import GridConfig
from kd.ui import keys, state
from tests.apps import TOKEN, said
from tests.helpers import wait_until

pytestmark = pytest.mark.app
SMALL = {"student": "mlp-30", "temperature": "1,4", "soft_weight": "1", "seeds": "1", "epochs": "1", "batch_size": "100"}


def ended(at):
    id = at.session_state[keys.GRID_RUN]
    wait_until(lambda: not state.manager().snapshot(id, TOKEN).active)
    return id


def test_a_grid_is_counted_first_trained_and_each_of_its_cells_opens_on_the_distil_page(app):
    at = app("sweep", **SMALL)
    assert not at.exception and "**3 trainings**: 2 students and 1 control," in said(at) and "on this machine" in said(at)
    at.button(key="grid_start").click().run()
    id = ended(at)
    at.run()
    assert not at.exception and runs.load(id).kind == "grid"
    assert "Best on the validation images" in said(at) and id in at.query_params["run"]
    at.selectbox(key=keys.GRID_PICKED).set_value(("mlp-30", 0, "hinton", 1.0, 1.0)).run()
    assert at.dataframe[0].value["test errors"].tolist() == [runs.load(id).measures["cells"][1]["test_errors"]]
    at.button(key="grid_open").click().run()
    assert not at.exception
    shown = at.session_state[keys.SETTINGS]["distil"]
    assert (shown["student"], shown["temperature"], shown["soft_weight"], shown["epochs"]) == ("mlp-30", 1.0, 1.0, 1)
    listed = app("runs")
    assert not listed.exception and "sweep of 3 cells, mlp-30" in str(listed.dataframe[0].value)


def test_what_cannot_be_trained_is_told_in_a_sentence_and_nothing_typed_is_lost(app):
    at = app("sweep", **SMALL)
    box = next(box for box in at.text_input if box.label == "Temperatures")
    box.set_value("1, forty").run()
    assert [error.value for error in at.error] == ["Temperature must be a number, not 'forty'."]
    assert at.button(key="grid_start").disabled and next(box for box in at.text_input if box.label == "Temperatures").value == "1, forty"
    assert not at.exception
    assert "Temperature must be between 1 and 20" in said(app("sweep", temperature="99"))


def test_a_stopped_sweep_is_gone_on_from_by_resume(app):
    config = GridConfig.from_query(SMALL | {"seeds": "3"})
    at = app("sweep", **config.to_query())
    at.button(key="grid_start").click().run()
    id = at.session_state[keys.GRID_RUN]
    wait_until(lambda: any("seconds 0" in row for row in state.manager().snapshot(id, TOKEN).rows))
    state.manager().stop(id, TOKEN)
    ended(at)
    at.run()
    if runs.load(id).state == "done":  # it was faster
        return
    kept = runs.load(id).measures["cells"]
    at.button(key="grid_continue").click().run()
    again = ended(at)
    assert again != id and runs.load(again).measures["cells"][: len(kept)] == kept and len(runs.load(again).measures["cells"]) == config.count
