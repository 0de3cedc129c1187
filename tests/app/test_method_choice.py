"""Methods on the Distil page: their settings, and errors before Start."""

import json

import pytest
import torch

from kd.config.distil import METHOD_SETTINGS, DistilConfig
from kd.config.teacher import TeacherConfig
from kd.models import registry
from kd.objectives import METHODS
from kd.store import runs
from kd.tables import methods
from kd.teachers import catalogue
from kd.ui.shell import session_keys
from tests.apps import query, said
from tests.helpers import MEASURES

pytestmark = pytest.mark.app


def sliders(at):
    """Return the method settings that the page shows."""
    return {name for name in METHOD_SETTINGS if any(slider.key == f"distil_{name}" for slider in at.slider)}


def chosen(at):
    return DistilConfig.from_dict(at.session_state[session_keys.SETTINGS]["distil"])


def test_every_method_shows_its_settings_and_purpose(app):
    at = app(student="cnn-tiny", method="dkd", nontarget_weight="6.5", temperature="8")
    assert at.slider(key="distil_nontarget_weight").value == 6.5
    for name, method in METHODS.items():
        at.selectbox(key="distil_method").set_value(name).run()
        assert not at.exception and not at.error, name
        assert sliders(at) == set(method.settings)
        assert method.purpose in said(at) and method.paper in said(at)
        assert ("for comparison only" in said(at)) == (not method.teacher)
        assert not at.button(key="start").disabled and chosen(at).method == name
    assert query(at)["method"] == name and "nontarget_weight" not in query(at)


def test_start_is_disabled_for_a_student_without_features(app):
    at = app()
    at.selectbox(key="distil_method").set_value("attention").run()
    assert "compares feature maps (the outputs of convolutions), but the student mlp-128 has none" in said(at)
    assert at.button(key="start").disabled and not at.exception
    at.selectbox(key="distil_student").set_value("cnn-tiny").run()
    assert not at.error and not at.button(key="start").disabled and chosen(at).method == "attention"


def test_run_title_names_its_method_and_settings(app):
    at = app(method="label-smoothing", student="mlp-30", epochs="1")
    at.button(key="start").click().run()
    assert not at.exception and "mlp-30 without a teacher: Label smoothing, smoothing = 0.1, seed 0" in said(
        at
    )


def test_stored_teachers_are_offered_too(app, monkeypatch):
    monkeypatch.setattr(catalogue, "shipped", lambda: ["cnn"])
    at = app()
    assert not any(choice.key == "distil_more_teachers" for choice in at.multiselect)
    run = runs.save(
        runs.new_id(),
        TeacherConfig(teacher="cnn-tiny"),
        "done",
        [],
        {"teacher": registry.build("cnn-tiny", 0)},
        MEASURES,
    )
    at = app(teacher=f"cnn+{run.id}")
    assert not at.exception and at.multiselect(key="distil_more_teachers").value == [run.id]
    assert chosen(at).teacher == f"cnn+{run.id}"
    # Who becomes the first is no longer among the others.
    at.selectbox(key="distil_teacher").set_value(run.id).run()
    assert not at.exception and chosen(at).teacher == run.id
    at.multiselect(key="distil_more_teachers").set_value(["cnn"]).run()
    assert not at.exception and chosen(at).teacher == f"{run.id}+cnn"


def test_methods_page_lists_all_methods(app, monkeypatch, tmp_path):
    monkeypatch.setattr(methods, "STORED", tmp_path / "methods.json")
    at = app("methods")
    assert not at.exception and not at.error and methods.COMMAND in said(at)
    assert list(at.dataframe[0].value["--method"]) == list(METHODS)
    spread = {"mean": 91.5, "sd": 0.25}
    few = spread | {"gain": {"mean": 16.0, "sd": 1.0}}
    about = {
        "command": "x",
        "student": "cnn-tiny",
        "labels": 100,
        "epochs": 5,
        "seeds": 2,
        "core_minutes": 3.0,
        "machine": "m",
        "teacher": 99.0,
    }
    table = about | {"control": {"few": spread, "all": spread}, "methods": {"hinton": {"few": few}}}
    methods.STORED.write_text(json.dumps(table))
    at = at.run()
    assert not at.exception and at.dataframe[0].value["100 labels"][0] == "91.50 ± 0.25 (+16.00)"
    methods.STORED.write_text("{")
    assert "is damaged" in said(at.run())


def test_useless_teacher_is_named_at_start(app):
    model = registry.build("mlp-30", 1)
    torch.nn.init.zeros_(model[-1].weight)
    config, id = TeacherConfig(teacher="mlp-30"), runs.new_id()
    runs.save(id, config, "done", [], {"teacher": model}, MEASURES, name="flat")
    at = app(student="mlp-30", epochs="1", teacher=id)
    assert not at.exception and "same answer" not in said(at)
    at.button(key="start").click().run()
    assert not at.exception and "The teacher flat gives the same answer for every image" in said(at)
    assert at.session_state[session_keys.RUN], "it can be started all the same"
