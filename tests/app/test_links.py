"""A link that asks for something that a page cannot give: it says so in a sentence."""

import pytest

from kd.ui.shell import shared
from kd.ui.shell.link import ignored
from tests.apps import said
from tests.jobs import LONG

pytestmark = pytest.mark.app
UNKNOWN = "20200101-000000-0123456789abcdef"


@pytest.fixture
def two(app, save):
    """Return two stored runs, the older one first."""
    return [save(), save()]


def test_runs_page_shows_the_links_run(app, two):
    for run in two:
        at = app("runs", run=run.id)
        assert not at.exception and not at.error and at.selectbox(key="run_choice").value == run.id


@pytest.mark.parametrize(
    ("id", "words"), [("../../etc", "not a valid run id"), (UNKNOWN, "not stored here: it was deleted")]
)
def test_runs_page_tells_that_the_links_run_is_not_there(app, two, id, words):
    at = app("runs", run=id)
    assert not at.exception and words in at.error[0].value
    assert at.selectbox(key="run_choice").value == two[1].id


def test_runs_page_tells_that_the_links_run_still_trains(app, two):
    id = shared.manager().start(LONG, "somebody else's token", paused=True)
    assert "not finished yet" in said(app("runs", run=id))


@pytest.mark.parametrize(
    ("page", "query", "sentence"),
    [
        ("", {"temperatur": "3"}, "This page has no setting called 'temperatur'."),
        ("", {"a": "", "b": "", "c": "", "d": ""}, "called 'a', 'b', 'c' and 1 more."),
        ("", {"mode": "techer"}, "The link's mode must be one of distil, teacher, not 'techer'."),
        ("sweep", {"way": "x"}, "way must be one of sweep, search, grid, not 'x'."),
        ("runs", {"temperature": "3"}, "no setting called 'temperature'."),
        ("methods", {"present": "yes"}, "present must be one of 1, not 'yes'."),
        ("", {"x" * 1000: ""}, f"called '{'x' * 40}'."),
    ],
)
def test_ignored_part_of_a_link_is_named(page, query, sentence):
    assert sentence in ignored(page, query) and ignored(page, query).endswith(
        "That part of the link was ignored."
    )


@pytest.mark.parametrize(
    ("page", "query"),
    [
        ("", {"temperature": "3", "run": UNKNOWN, "present": "1", "mode": "teacher"}),
        ("dark_knowledge", {"panel": "shift", "drawn": "x"}),
        ("sweep", {"way": "grid", "shows": "test_errors", "gain": "1"}),
        ("compare", {"run": UNKNOWN}),
        ("compress", {"network": "cnn"}),
        ("", {}),
    ],
)
def test_link_without_unknown_parts_is_not_remarked_on(page, query):
    assert ignored(page, query) == ""


def test_page_names_what_it_ignores_until_another_one_is_opened(app):
    at = app(temperatur="3", student="linear")
    assert not at.exception and "no setting called 'temperatur'" in said(at)
    at.number_input(key="distil_epochs").set_value(3).run()
    assert "no setting called 'temperatur'" in said(at)
    assert "no setting called" not in said(app("runs"))


def test_number_out_of_range_is_answered_in_a_sentence(app):
    at = app()
    at.number_input(key="distil_epochs").set_value(0).run()
    assert not at.exception and "Epochs must be between 1 and 200, not 0." in said(at)
    assert at.button(key="start").disabled
    assert at.number_input(key="distil_epochs").value == 0, "as it was typed"
    at.number_input(key="distil_epochs").set_value(3).run()
    assert not at.error and not at.button(key="start").disabled


def test_huge_number_is_quoted_in_short(app):
    at = app(epochs="1e99")
    assert at.error[0].value.endswith("Epochs must be between 1 and 200, not 1e+99.")


def test_draw_page_refuses_a_test_image_that_is_not_there(app):
    at = app("draw")
    at.segmented_control[0].set_value("Test set").run()
    field = next(field for field in at.number_input if field.label.startswith("Picture 1 to"))
    field.set_value(0).run()
    assert not at.exception and at.error[0].value.startswith("Choose a number from 1 to ")
