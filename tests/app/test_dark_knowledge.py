"""The dark-knowledge page in Streamlit's own test harness."""

import pytest

from kd.lab.settings import LabSettings
from kd.ui import keys
from tests.apps import said

pytestmark = pytest.mark.app
PAGE = "dark_knowledge"


def shown(at) -> LabSettings:
    return LabSettings.from_dict(at.session_state[keys.LAB])


def query(at) -> dict[str, str]:
    return {name: value[0] if isinstance(value, list) else value for name, value in at.query_params.items()}


def test_a_first_visit_shows_what_the_teacher_sees_in_a_digit(app):
    at = app(PAGE)
    assert not at.exception and not at.error
    assert "the teacher sees" in said(at) and "bits open" in said(at)


def test_a_link_restores_every_setting_and_reset_forgets_them(app):
    at = app(PAGE, temperature="8.5", digit="7", like="1", image="3", picture="test")
    assert not at.exception and not at.error
    assert shown(at) == LabSettings(temperature=8.5, digit="7", like="1", image=3)
    assert at.slider(key="lab_temperature").value == 8.5
    assert query(at) == shown(at).to_query()
    at.button(key="lab_reset").click().run()
    assert shown(at) == LabSettings() and query(at) == {}


@pytest.mark.parametrize(
    "bad, words",
    [
        ({"panel": "nothing"}, "Experiment must be one of soft-targets"),
        ({"temperature": "400"}, "Temperature must be between 1 and 20"),
    ],
)
def test_a_bad_link_is_told_in_one_sentence_and_the_page_still_works(app, bad, words):
    at = app(PAGE, **bad)
    assert not at.exception
    assert words in said(at)
    assert shown(at) == LabSettings()


def test_a_moved_slider_is_in_the_link_at_once(app):
    at = app(PAGE)
    at.slider(key="lab_temperature").set_value(12.0).run()
    assert query(at) == {"temperature": "12.0"}


def test_a_doubtful_digit_can_be_asked_for_again_and_again(app):
    at = app(PAGE)
    seen = []
    for _ in range(3):
        at.button(key="lab_doubtful").click().run()
        seen.append(shown(at).image)
    assert len(set(seen)) == 3 and not at.exception
