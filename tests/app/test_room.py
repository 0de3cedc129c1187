"""A room with a presenter: permissions, the storage panel, and names with markup."""

from __future__ import annotations

import re

import pytest
from streamlit.testing.v1 import AppTest

from kd import permissions
from kd.config.distil import DistilConfig
from kd.errors import UserError
from kd.models import registry
from kd.store import quota, runs
from kd.ui.shell import session_keys, shared
from tests.apps import TOKEN, said
from tests.helpers import MEASURES, wait_until
from tests.jobs import LONG

pytestmark = pytest.mark.app

PASSWORD = "correct horse battery"
EVIL = "<img src=x onerror=alert(1)> ![x](//e.example/x.png) :red[a]"
ME = runs.owner_digest(TOKEN)


@pytest.fixture(autouse=True)
def nobody(monkeypatch):
    monkeypatch.setattr(permissions, "_presenters", {})
    monkeypatch.setattr(permissions, "_entered", {})
    monkeypatch.setattr(permissions, "_wrong", permissions.deque())


def store(name, owner=ME, day=1):
    trained = {who: registry.build("mlp-30", seed) for seed, who in enumerate(("student", "control"))}
    rows = [
        {
            "step": 1,
            "epoch": 1.0,
            "seconds": 1.0,
            "images_per_second": 1.0,
            "whole_validation": 1.0,
            "loss student soft": 0.1,
            "validation student": 0.9,
        }
    ]
    return runs.save(
        f"202601{day:02}-120000-0123456789abcdef",
        DistilConfig(student="mlp-30", epochs=1),
        "done",
        rows,
        trained,
        MEASURES,
        owner,
        name=name,
    )


def test_visitor_may_watch_and_draw(app, monkeypatch):
    monkeypatch.setenv(permissions.PASSWORD, PASSWORD)
    at = app()
    assert "Only the presenter can start or delete runs here" in said(at)
    assert at.button(key="start").disabled and at.button(key="step").disabled


def test_presenter_may_start(app, monkeypatch):
    monkeypatch.setenv(permissions.PASSWORD, PASSWORD)
    permissions.enter(PASSWORD, ME)
    at = app()
    assert "You are the presenter" in said(at) and not at.button(key="start").disabled


def test_presenter_stops_a_run_of_somebody_else(app, monkeypatch):
    monkeypatch.setenv(permissions.PASSWORD, PASSWORD)
    at = app()
    permissions.enter(PASSWORD, runs.owner_digest("another token"))
    id = shared.manager().start(LONG, "another token", paused=True)
    at = app(run=id)
    assert at.button(key="stop").disabled and "only they can pause or stop it" in said(at)
    permissions.enter(PASSWORD, ME)
    at = app(run=id)
    assert not at.button(key="stop").disabled and "As the presenter you can stop it" in said(at)
    at.button(key="stop").click().run()
    wait_until(lambda: not shared.manager().snapshot(id, counts=False).active, "a run that has ended")
    with pytest.raises(UserError, match="Only the person who started this run"):
        shared.manager().pause(id, TOKEN)


def test_presenter_logs_in_and_out(app, monkeypatch):
    def entrance(token):
        import streamlit as st

        from kd.ui.shell import login, notices, session_keys

        st.session_state[session_keys.OWNER] = token
        login.show()
        notices.show()

    monkeypatch.setenv(permissions.PASSWORD, PASSWORD)
    at = AppTest.from_function(entrance, kwargs={"token": TOKEN}, default_timeout=60).run()
    for password, told in (
        ("wrong password", "That is not the presenter's password."),
        (PASSWORD, "You are the presenter"),
    ):
        at.text_input(key="presenter_password").set_value(password)
        at.button(key="FormSubmitter:presenter-Enter").click().run()
        assert told in said(at) and not at.exception
    at.button(key="presenter_leave").click().run()
    assert "Only the presenter can start or delete runs here" in said(at) and not permissions.allowed(ME)


def test_login_is_hidden_without_a_password(app):
    at = app()
    assert "presenter" not in said(at).lower() and not at.button(key="start").disabled


def test_nearly_full_store_offers_the_oldest_unpinned_runs(app, monkeypatch):
    for day in (1, 2):
        store(f"run {day}", day=day)
    store("somebody else's", "another", 3)
    monkeypatch.setenv("KD_MAX_RUNS", "3")
    at = app("runs")
    panel = next(found for found in at.expander if found.label.startswith("Stored: 3 of 3 runs"))
    assert panel.proto.expanded
    offered = at.multiselect(key="remove_runs")
    assert [option.split(" (")[0] for option in offered.options] == ["run 1", "run 2"]
    at.selectbox(key="run_choice").set_value(quota.removable(runs.list_runs()[0], ME)[1].id).run()
    at.toggle(key=f"pin_{at.selectbox(key='run_choice').value}").set_value(True).run()
    assert [option.split(" (")[0] for option in at.multiselect(key="remove_runs").options] == ["run 1"]
    at.multiselect(key="remove_runs").set_value([quota.removable(runs.list_runs()[0], ME)[0].id]).run()
    at.button(key="remove").click().run()
    assert [success.value for success in at.success] == ["1 run was removed."] and len(
        runs.list_runs()[0]
    ) == 2


@pytest.mark.parametrize("page", ["runs", "compare", "draw", None])
def test_run_name_is_shown_as_plain_text_everywhere(app, page):
    run = store(EVIL[:60])
    at = app(page, **({} if page else {"run": run.id}))
    if page == "runs":
        at.selectbox(key="run_choice").set_value(run.id).run()
        assert EVIL[:60] in {option.rsplit(" (", 1)[0] for option in at.selectbox(key="run_choice").options}
    assert not at.exception
    for element in [*at.markdown, *at.caption, *at.subheader, *at.error, *at.success, *at.info, *at.warning]:
        assert not getattr(element, "allow_html", False)
        bare = element.value.replace("\\<", "").replace("\\[", "").replace("\\:", "")
        assert "<img" not in bare and "![x]" not in bare and ":red[a]" not in bare, element.value


def test_hostile_link_is_quoted_as_plain_text(app):
    at = app(student="<img src=x onerror=alert(1)>![x](//e.example/x.png)")
    (error,) = at.error
    assert r"\<img" in error.value and r"!\[x\]" in error.value


# -- somebody trains ------------------------------------------------------------------

ENDLESS = DistilConfig(student="mlp-30", epochs=200, batch_size=5)


def test_arriving_visitor_sees_the_time_left_and_can_watch(app):
    assert not [button for button in app().button if button.key == "room_open"], "nobody trains"
    manager, other = shared.manager(), "another visitor's token of 32 letters"
    id = manager.start(ENDLESS, other)
    manager.start(ENDLESS, "a third visitor's token of 32 letters")
    wait_until(lambda: manager.snapshot(id, other).rows, "the first record")
    at = app()
    assert not at.exception and re.search(
        r"Somebody else is training now: .*mlp-30.*\. About \d+ (s|min) left\. 1 more is waiting\.", said(at)
    )
    (button,) = (button for button in at.button if button.key == "room_open")
    assert button.label == "Watch it" and not at.button(key="start").disabled
    button.click().run()
    assert at.session_state[session_keys.RUN] == id and "You are watching a run" in said(at)
    assert "room_open" not in {button.key for button in at.button}


def test_visitor_returns_to_their_own_run(app):
    app()
    manager = shared.manager()
    manager.start(ENDLESS, "another visitor's token of 32 letters", paused=True)
    id = manager.start(ENDLESS, TOKEN, paused=True)
    at = app()
    assert not at.exception and "Your run is under way" in said(at) and "Somebody else" not in said(at)
    (button,) = (button for button in at.button if button.key == "room_open")
    assert button.label == "Return to your run"
    button.click().run()
    assert at.session_state[session_keys.RUN] == id and not at.button(key="stop").disabled
