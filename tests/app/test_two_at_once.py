"""Two widgets changed in one script run, as on a busy server: nothing crashes, and neither change is lost."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable

import pytest
from streamlit.proto.WidgetStates_pb2 import WidgetState, WidgetStates
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import ElementTree, Widget

from kd.config.compress import CompressConfig
from kd.config.distil import DistilConfig
from kd.config.teacher import TeacherConfig
from kd.lab.settings import LabSettings
from kd.models import registry
from kd.store import runs
from kd.ui.compress import preview
from tests.apps import TOKEN, said
from tests.helpers import MEASURES

pytestmark = pytest.mark.app

KINDS = (
    "selectbox",
    "slider",
    "number_input",
    "button_group",
    "multiselect",
    "text_input",
    "toggle",
    "radio",
)
VIEWS = ("mode_widget", "way_widget", "lab_panel")  # they choose the widgets that a page shows
FORMS = ("distil_", "teacher_", "lab_", "grid_form_", "search_form_", "compress_")  # of the settings' keys
BUTTONS = ("reset", "lab_reset", "lab_preset_3", "lab_preset_01234569", "lab_doubtful", "distil_no_schedule")
#: Widget -> the other settings that it sets, as a pattern of keys. All other changes must survive it.
SETS = {
    "preset": "distil_(?!seed|teacher|more_teachers).*",
    "lab_reset": "lab_(?!panel).*",
    "lab_preset_3": "lab_omitted.*",
    "lab_preset_01234569": "lab_omitted.*",
    "lab_doubtful": "lab_image.*",
    "lab_digit": "lab_like.*",
    "grid_stored": "grid_(cell|x|y|fixed).*",  # another sweep has other cells
    "name": "remove_runs",  # whose options are the runs' names
    "run_choice": "export_.*|name|pin.*|delete.*",  # each run has widgets of its own
    "compress_network": "compress_teacher.*",
    "distil_teacher": "distil_more_teachers.*",
}
PAGES: dict[str, tuple[str | None, dict[str, str], int]] = {
    # name -> page, link, and the least number of widgets that the page has
    "distil": (None, {}, 16),
    "distil, own student": (None, {"student": "mlp-64-32", "method": "dkd"}, 16),
    "distil, teacher": (None, {"mode": "teacher"}, 7),
    "draw": ("draw", {}, 3),
    "soft targets": ("dark_knowledge", {}, 8),
    "never saw": ("dark_knowledge", {"panel": "never-saw"}, 7),
    "label budget": ("dark_knowledge", {"panel": "label-budget"}, 3),
    "break it": ("dark_knowledge", {"panel": "break-it"}, 6),
    "sweep": ("sweep", {}, 13),
    "search": ("sweep", {"way": "search"}, 9),
    "runs": ("runs", {}, 2),
    "compare": ("compare", {}, 2),
    "compress": ("compress", {}, 12),
}


@pytest.fixture
def three_runs(app):
    """Store a teacher that this visitor trained, and two students: the shipped teacher's and this one's."""
    own = runs.owner_digest(TOKEN)
    network = {"teacher": registry.build("mlp-30", 5)}
    teacher = runs.save(runs.new_id(), TeacherConfig(teacher="mlp-30"), "done", [], network, {}, own).id
    row = {"step": 1, "epoch": 1.0, "seconds": 1.0, "images_per_second": 1.0, "whole_validation": 1.0}
    row |= {"loss student soft": 0.1, "validation student": 0.9}
    trained = {who: registry.build("mlp-30", seed) for seed, who in enumerate(("student", "control"))}
    for name in ("cnn", teacher):
        config = DistilConfig(student="mlp-30", epochs=1, teacher=name)
        runs.save(runs.new_id(), config, "done", [row], trained, MEASURES, own)


def changeable(at: AppTest) -> dict[str, Widget]:
    """Return the widgets by key, without a run's id or the count of how often a widget got a new one."""
    found = {}
    for element in at:
        if isinstance(element, Widget) and not element.disabled:
            if element.type in KINDS:
                found[re.sub(r"(?<=[a-z])_\d[\d-]*(?:-[0-9a-f]{16})?$", "", element.key or element.label)] = (
                    element
                )
            elif element.type == "button" and element.key in BUTTONS:
                found[element.key] = element
    return found


def changed(element: Widget) -> WidgetState:
    """Return what the browser would send if a visitor gave the widget another valid value."""
    state = WidgetState()
    state.CopyFrom(element._widget_state)
    if element.type == "button":
        state.trigger_value = True
    elif element.type == "toggle":
        state.bool_value = not state.bool_value
    elif element.type == "text_input":
        state.string_value = "2, 3" if state.string_value != "2, 3" else "1, 4"
    elif element.type == "slider":
        state.double_array_value.data[:] = [_moved(element, state.double_array_value.data[0])]
    elif element.type == "number_input":
        state.double_value = _moved(element, state.double_value)
    elif element.type in ("selectbox", "radio"):
        place = element.options.index(state.string_value) if state.string_value in element.options else -1
        state.string_value = element.options[(place + 1) % len(element.options)]
    else:  # one or several of some options
        kept = list(state.string_array_value.data)
        others = [option for option in element.options if option not in kept]
        single = element.type == "button_group" and element._is_single_select
        limited = element.type == "multiselect" and len(kept) == element.proto.max_selections > 0
        kept = (
            others[:1]
            if single
            else kept[1:]
            if limited or len(kept) > 2 or not others
            else [*kept, others[0]]
        )
        state.string_array_value.data[:] = kept
    return state


def _moved(element: Widget, value: float) -> float:
    most = float("inf") if element.max is None else element.max
    return value + element.step if value + element.step <= most else value - element.step


def content(state: WidgetState) -> tuple:
    """Return what a widget's state says, whatever its id and the order of its options."""
    data = [value for field, value in state.ListFields() if field.name != "id"]
    return tuple(sorted(value.data) if hasattr(value, "data") else value for value in data)


@pytest.fixture
def send(monkeypatch) -> Callable[[AppTest, list[WidgetState]], None]:
    """Return a function that runs the page once with some widgets changed; callbacks run in their order."""
    sent: list[WidgetState] = []
    others = ElementTree.get_widget_states

    def states(self: ElementTree) -> WidgetStates:
        ids = {state.id for state in sent}
        kept = [state for state in others(self).widgets if state.id not in ids]
        return WidgetStates(widgets=[*kept, *sent])

    def run(at: AppTest, changes: list[WidgetState]) -> None:
        sent[:] = changes
        at.run()
        sent.clear()

    monkeypatch.setattr(ElementTree, "get_widget_states", states)
    return run


def spoilt(key: str, other: str) -> bool:
    """Return whether a change of ``other`` sets the widget ``key`` too."""
    return re.fullmatch(SETS.get(other, "-"), key) is not None


@pytest.mark.parametrize("name", PAGES)
def test_two_changes_in_one_run_are_both_kept(app, three_runs, send, monkeypatch, name):
    page, link, least = PAGES[name]
    rows = functools.cache(lambda: evaluate(CompressConfig(network="cnn", neurons=0), 1))
    evaluate = preview.rows
    monkeypatch.setattr(preview, "rows", lambda config, batch: rows())  # not each combination of sliders
    at = app(page, **link)
    assert not at.exception and not at.error, at.error[0].value
    keys = list(changeable(at))
    assert len(keys) >= least, keys
    tried = 0
    for number, (one, other) in enumerate(itertools.combinations(keys, 2)):
        orders = [(one, other), (other, one)]
        # Both orders where one sets others; for the rest they alternate.
        for pair in orders if {one, other} & SETS.keys() else [orders[number % 2]]:
            before = changeable(at)
            if not before.keys() >= set(pair):  # an earlier choice has hidden one of them
                continue
            tried += 1
            changes = {key: changed(before[key]) for key in pair}
            views = [(key, before[key]._widget_state) for key in pair if key in VIEWS]
            send(at, list(changes.values()))
            assert not at.exception, (pair, at.exception)
            for key, state in views:  # go back to the view that this test is about
                assert changeable(at)[key]._widget_state == changes[key], (pair, key)
                send(at, [state])
            after = changeable(at)
            for key, by in (pair, pair[::-1]):
                if key not in after or after[key].type == "button" or key in VIEWS or spoilt(key, by):
                    continue
                if by not in VIEWS or key.startswith(FORMS):
                    assert content(after[key]._widget_state) == content(changes[key]), (pair, key)
    assert tried >= len(keys) * (len(keys) - 1) / 4


def test_change_is_kept_where_the_other_hides_it(app, three_runs, send):
    at = app()
    for key in ("distil_student", "distil_teacher", "distil_seed"):
        found = changeable(at)
        change, mode = changed(found[key]), changed(found["mode_widget"])
        send(at, [mode, change])
        assert not at.exception and "teacher_epochs" in changeable(at)
        send(at, [changed(changeable(at)["mode_widget"])])
        assert changeable(at)[key]._widget_state == change, key


@pytest.mark.parametrize("order", [1, -1])
def test_preset_keeps_a_seed_and_teacher_changed_with_it(app, three_runs, send, order):
    at = app()
    found = changeable(at)
    preset = WidgetState(id=found["preset"].id, string_value="Hinton 2015")
    seed, teacher = changed(found["distil_seed"]), changed(found["distil_teacher"])
    send(at, [preset, seed, teacher][::order])
    now = changeable(at)
    assert (now["distil_seed"]._widget_state, now["distil_teacher"]._widget_state) == (seed, teacher)
    assert (now["distil_student"].value, now["distil_temperature"].value) == ("mlp-800x2", 20.0)


@pytest.mark.parametrize("order", [1, -1])
def test_reset_of_the_lab_keeps_a_new_panel_alone(app, send, order):
    at = app("dark_knowledge", panel="break-it", break_temperature="12")
    found = changeable(at)
    reset = WidgetState(id=found["lab_reset"].id, trigger_value=True)
    panel = WidgetState(id=found["lab_panel"].id)
    panel.string_array_value.data[:] = ["Fidelity"]
    weight = WidgetState(id=found["lab_soft_weight"].id)
    weight.double_array_value.data[:] = [0.75]
    send(at, [reset, panel, weight][::order])
    assert at.session_state["lab"] == LabSettings(panel="fidelity").to_dict()


def test_schedule_can_be_removed(app):
    at = app(schedule="3:temperature=2")
    assert "after step 3 temperature" in said(at)
    at.button(key="distil_no_schedule").click().run()
    assert "after step 3 temperature" not in said(at) and not at.exception
