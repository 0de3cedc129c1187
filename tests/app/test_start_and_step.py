"""Start and Step on the Distil page after a run has ended: nothing on the page is lost."""

import json

import pytest
from streamlit.testing.v1 import AppTest

from kd.ui.shell import session_keys, shared
from tests.apps import TOKEN, ended
from tests.helpers import wait_until

pytestmark = pytest.mark.app


def finish(at: AppTest) -> str:
    """Wait for the end of the session's run, draw the page again and return the run's id."""
    id = ended(at, session_keys.RUN)
    at.run()
    return id


def lines(at: AppTest, which: str) -> dict[str, list[float]]:
    """Return the lines of a chart on the page: name -> values."""
    (shown,) = (found for found in at.get("bidi_component") if found.key == "charts")
    traces = json.loads(shown.proto.bytes)["figures"][which]["data"]
    return {trace["name"]: trace["y"] for trace in traces if trace["mode"] == "lines"}


def test_step_after_the_end_replaces_nothing(app):
    at = app(student="linear", epochs="1", batch_size="500")
    at.button(key="step").click().run()  # starts a run, which pauses after its first step
    id, manager = at.session_state[session_keys.RUN], shared.manager()
    wait_until(lambda: manager.snapshot(id, TOKEN).state == "paused", "the first step")
    at.run()
    manager.stop(id, TOKEN)  # in another tab
    ended(at, session_keys.RUN)
    at.button(key="step").click().run()  # pressed on a page that has not seen the end yet
    assert not at.exception and at.session_state[session_keys.RUN] == id and not manager.active()
    at.run()
    assert at.button(key="step").disabled and not at.button(key="start").disabled


def test_start_keeps_the_finished_curves_behind_the_new_ones(app):
    at = app(student="linear", epochs="1", batch_size="500")
    at.button(key="start").click().run()
    finish(at)
    before = lines(at, "chart_accuracy")
    assert not any("previous" in name for name in before)
    at.number_input(key="distil_seed").set_value(5).run()
    at.button(key="start").click().run()
    id = finish(at)
    now = lines(at, "chart_accuracy")
    for role in ("student", "control"):
        assert now[f"{role}, previous run"] == before[role] != now[role]
    assert not any("previous" in name for name in lines(app(run=id), "chart_accuracy")), "only here"
    at.button(key="reset").click().run()
    at.button(key="start").click().run()
    finish(at)
    assert not any("previous" in name for name in lines(at, "chart_accuracy"))
