"""The Sweep page in Streamlit's test harness."""

import pytest

from kd import paths, permissions
from kd.config.sweep import SweepConfig
from kd.store import runs
from kd.sweeps import sweep_weights
from kd.ui.shell import session_keys, shared
from tests.apps import TOKEN, ended, query, said
from tests.helpers import wait_until

pytestmark = pytest.mark.app
SMALL = {
    "student": "mlp-30",
    "temperature": "1,4",
    "soft_weight": "1",
    "seeds": "1",
    "epochs": "1",
    "batch_size": "100",
}


def test_sweep_is_counted_trained_and_its_cells_open(app):
    at = app("sweep", **SMALL)
    assert (
        not at.exception
        and "**3 trainings**: 2 students and 1 control," in said(at)
        and "estimated from a short trial" in said(at)
    )
    at.button(key="grid_start").click().run()
    id = ended(at, session_keys.GRID_RUN)
    at.run()
    assert not at.exception and runs.load(id).kind == "sweep"
    assert "Best setting (chosen on validation)" in said(at) and query(at)["run"] == id
    next(box for box in at.selectbox if box.label == "Cell").set_value(
        ("mlp-30", 0, "hinton", 1.0, 1.0)
    ).run()
    assert at.dataframe[0].value["test errors"].tolist() == [
        runs.load(id).measures["cells"][1]["test_errors"]
    ]
    assert "**Click a cell to open that student**" in said(at)
    at.button(key="grid_open").click().run()
    assert not at.exception
    shown = at.session_state[session_keys.SETTINGS]["distil"]
    assert (shown["student"], shown["temperature"], shown["soft_weight"], shown["epochs"]) == (
        "mlp-30",
        1.0,
        1.0,
        1,
    )
    listed = app("runs")
    assert not listed.exception and "sweep of 3 cells, mlp-30" in str(listed.dataframe[0].value)


def test_invalid_sweep_gives_a_sentence_and_keeps_the_input(app):
    at = app("sweep", **SMALL)
    box = next(box for box in at.text_input if box.label == "Temperatures")
    box.set_value("1 2").run()
    assert not at.error and "**3 trainings**: 2 students and 1 control," in said(at), "T = 1 and 2, not 12"
    box.set_value("1, forty").run()
    assert [error.value for error in at.error] == ["Temperature must be a number, not 'forty'."]
    assert (
        at.button(key="grid_start").disabled
        and next(box for box in at.text_input if box.label == "Temperatures").value == "1, forty"
    )
    assert not at.exception
    assert "Temperature must be between 1 and 20" in said(app("sweep", temperature="99"))


def test_stopped_sweep_continues_with_resume(app):
    config = SweepConfig.from_query(SMALL | {"seeds": "3"})
    at = app("sweep", **config.to_query())
    at.button(key="grid_start").click().run()
    id = at.session_state[session_keys.GRID_RUN]
    wait_until(lambda: any("seconds 0" in row for row in shared.manager().snapshot(id, TOKEN).rows))
    shared.manager().stop(id, TOKEN)
    ended(at, session_keys.GRID_RUN)
    at.run()
    if runs.load(id).state == "done":  # it was faster
        return
    kept = runs.load(id).measures["cells"]
    at.button(key="grid_continue").click().run()
    again = ended(at, session_keys.GRID_RUN)
    assert (
        again != id
        and runs.load(again).measures["cells"][: len(kept)] == kept
        and len(runs.load(again).measures["cells"]) == config.count
    )


def trained(app):
    """Return the page with a finished sweep, and its id."""
    at = app("sweep", **SMALL | {"seeds": "2"})
    at.button(key="grid_start").click().run()
    id = ended(at, session_keys.GRID_RUN)
    return at.run(), id


def test_clicking_a_cell_twice_opens_the_same_run(app):
    at, id = trained(app)
    cells = runs.load(id).measures["cells"]

    def click(at):
        # As the chart's component tells of a click: see kd.ui.sweep.heat_map.
        at.session_state[session_keys.GRID_PICKED] = ("mlp-30", 0, "hinton", 4.0, 1.0)
        at.session_state[session_keys.GRID_OPEN] = True
        at.run()
        assert not at.exception and at.session_state[session_keys.RUN]
        return runs.load(at.session_state[session_keys.RUN])

    run = click(at)
    assert run.owner == runs.owner_digest(TOKEN) and run.config.temperature == 4 and run.config.seed == 0
    assert run.measures["models"]["student"]["test_errors"] == next(
        cell["test_errors"] for cell in cells if cell.get("temperature") == 4 and cell["seed"] == 0
    )
    assert query(at)["run"] == run.id and f"This is a cell of the sweep {id}" in said(at)
    assert [metric.value for metric in at.metric][
        1
    ] == f"{run.measures['models']['student']['test_accuracy']:.2%}"
    at.switch_page(str(paths.page("sweep"))).run()
    assert click(at).id == run.id and len(runs.list_runs()[0]) == 2
    # The other seed, by the button.
    at.switch_page(str(paths.page("sweep"))).run()
    at.selectbox(key=session_keys.GRID_SEED).set_value(1).run()
    at.button(key="grid_open_run").click().run()
    assert (
        not at.exception
        and runs.load(at.session_state[session_keys.RUN]).config.seed == 1
        and len(runs.list_runs()[0]) == 3
    )


def test_sweep_without_networks_offers_its_settings(app):
    at, id = trained(app)
    (runs.load(id).folder / "cells.safetensors").unlink()  # as one that was stored before they were kept
    at.session_state[session_keys.GRID_OPEN] = True
    at.run()
    assert (
        not at.exception
        and "This sweep kept no networks." in said(at)
        and not any(button.key == "grid_open_run" for button in at.button)
    )
    assert at.button(key="grid_open") and len(runs.list_runs()[0]) == 1


def test_only_the_presenter_opens_cells_with_a_password(app, monkeypatch):
    at, _ = trained(app)
    monkeypatch.setenv(permissions.PASSWORD, "long enough")
    at.session_state[session_keys.GRID_OPEN] = True
    at.run()
    assert (
        not at.exception
        and "Only the presenter can open cells as runs on this server" in said(at)
        and len(runs.list_runs()[0]) == 1
    )


def test_page_says_before_start_which_networks_are_kept(app, monkeypatch):
    monkeypatch.setattr(sweep_weights, "MAX_BYTES", 400_000)
    at, id = trained(app)
    assert "at most 0 MB: those of seed 0." in said(at) and sweep_weights.held(runs.load(id)) == {0, 1, 2}
    at.selectbox(key=session_keys.GRID_SEED).set_value(1).run()
    assert at.button(key="grid_open_run").disabled
