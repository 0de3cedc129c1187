"""The Dark knowledge page in Streamlit's test harness."""

import pytest

from kd.drawing import links
from kd.experiments import study
from kd.lab.settings import LabSettings
from kd.ui.shell import session_keys, shared
from tests.apps import TOKEN, query, said
from tests.helpers import wait_until

pytestmark = pytest.mark.app
PAGE = "dark_knowledge"


def shown(at) -> LabSettings:
    return LabSettings.from_dict(at.session_state[session_keys.LAB])


def test_first_visit_shows_soft_targets_of_a_digit(app):
    at = app(PAGE)
    assert not at.exception and not at.error
    assert "the teacher sees" in said(at) and "Uncertainty: " in said(at)


def test_link_restores_every_setting_and_reset_clears_them(app):
    at = app(PAGE, temperature="8.5", digit="7", like="1", image="3", picture="test")
    assert not at.exception and not at.error
    assert shown(at) == LabSettings(temperature=8.5, digit="7", like="1", image=3)
    assert at.slider(key="lab_temperature").value == 8.5
    assert query(at) == shown(at).to_query()
    at.button(key="lab_reset").click().run()
    assert shown(at) == LabSettings() and query(at) == {}


def test_link_restores_a_drawing(app, mnist):
    drawn = links.to_text(mnist.test.images[0].numpy())
    at = app(PAGE, picture="draw", drawn=drawn)
    assert not at.exception and not at.error
    assert "the teacher sees" in said(at) and "The drawing in the link" in said(at)
    assert query(at) == {"picture": "draw", "drawn": drawn}
    at.segmented_control(key="lab_picture").set_value("test").run()
    assert "drawn" not in query(at)


@pytest.mark.parametrize(
    "bad, words",
    [
        ({"picture": "draw", "drawn": "nonsense"}, "drawing is cut off or damaged"),
        ({"panel": "nothing"}, "Experiment must be one of soft-targets"),
        ({"temperature": "400"}, "Temperature must be between 1 and 20"),
    ],
)
def test_bad_link_gives_one_sentence_and_the_page_works(app, bad, words):
    at = app(PAGE, **bad)
    assert not at.exception
    assert words in said(at)
    assert shown(at) == LabSettings(picture=bad.get("picture", "test"))


def test_slider_change_is_in_the_link_at_once(app):
    at = app(PAGE)
    at.slider(key="lab_temperature").set_value(12.0).run()
    assert query(at) == {"temperature": "12.0"}


def test_ambiguous_example_can_be_requested_repeatedly(app):
    at = app(PAGE)
    seen = []
    for _ in range(3):
        at.button(key="lab_doubtful").click().run()
        seen.append(shown(at).image)
    assert len(set(seen)) == 3 and not at.exception


def wait_for_end(at, slot: str = session_keys.RUN) -> None:
    wait_until(
        lambda: not shared.manager().snapshot(at.session_state[slot], TOKEN).active, "the end of the run", 120
    )
    at.run()


def test_omitted_digits_return_with_a_label_free_offset(app):
    at = app(PAGE, panel="never-saw", omitted="3")
    at.button(key="lab_start").click().run()
    assert not at.exception
    run = at.session_state[session_keys.RUN]
    assert query(at) == {"panel": "never-saw", "run": run}
    wait_for_end(at)
    assert "Never-seen **3** recognised" in said(at) and "control 0% (0% before correction)" in said(at)
    at.segmented_control(key="lab_offset_by").set_value("frequency").run()
    assert not at.exception and "Chosen without labels" in said(at)
    assert query(at) == {"panel": "never-saw", "offset_by": "frequency", "run": run}
    rows = at.dataframe[0].value.set_index("offset")
    assert rows.loc["by class frequency", "student, left out"] < rows.loc["no offset", "student, left out"]
    at.segmented_control(key="lab_offset_by").set_value("test").run()
    assert "Chosen on the test set" in said(at)
    again = app(PAGE, **query(at))  # the link brings it all back
    assert not again.exception and "Chosen on the test set" in said(again)


def test_preset_fills_in_digits_and_none_cannot_start(app):
    at = app(PAGE, panel="never-saw")
    at.button(key="lab_preset_01234569").click().run()
    assert shown(at).omitted == "01234569"
    at.pills[0].set_value([]).run()
    assert at.button(key="lab_start").disabled and "at least one digit" in said(at)


def test_label_study_shows_the_control_and_its_link_restores_it(app, monkeypatch):
    monkeypatch.setattr(study, "BUDGETS", (100,))
    monkeypatch.setattr(study, "FEW", 2_000)
    monkeypatch.setattr(study, "MANY", 3_000)
    at = app(PAGE, panel="label-budget", seeds="1")
    assert "Until then, what `python -m kd study --study labels" in said(
        at
    ) and "reaches a test accuracy of **98.4% ± 0.1**" in said(at)
    at.button(key="lab_start").click().run()
    wait_for_end(at, session_keys.LAB_RUN)
    assert (
        not at.exception
        and "Without a single label, the student reaches" in said(at)
        and "with 100 labels the control reaches" in said(at)
    )
    link = query(at)
    assert link == {"panel": "label-budget", "seeds": "1", "lab_run": at.session_state[session_keys.LAB_RUN]}
    again = app(PAGE, **link)
    assert not again.exception and "with 100 labels the control reaches" in said(again)
    distil = app(None, run=link["lab_run"])  # no page takes it for a run
    assert not distil.exception and "Dark knowledge page shows it" in said(distil)
    listed = app("runs")
    assert not listed.exception and "labels study" in str(listed.dataframe[0].value)
    listed.button(key="open").click().run()
    assert not listed.exception and "with 100 labels the control reaches" in said(listed)


def test_wrong_labels_study_trains_student_and_control(app, monkeypatch):
    monkeypatch.setattr(study, "NOISE", (0.0, 0.6))
    monkeypatch.setattr(study, "NOISE_IMAGES", 4_000)
    at = app(PAGE, panel="wrong-labels", seeds="1")
    at.button(key="lab_start").click().run()
    wait_for_end(at, session_keys.LAB_RUN)
    assert not at.exception and "With **60%** of the labels wrong the student's test accuracy is" in said(at)


def test_shift_features_and_fidelity_show_the_same_run(app):
    def charts(at) -> set[str]:
        return {element.key for element in at.get("bidi_component")}

    at = app(PAGE, panel="shift", corruption="noisy")
    assert "Press **Start**" in said(at)
    at.button(key="lab_start").click().run()
    wait_for_end(at)
    run = at.session_state[session_keys.RUN]
    assert not at.exception and "At the highest level: teacher" in said(at) and ", control " in said(at)
    assert query(at) == {"panel": "shift", "corruption": "noisy", "run": run}
    at = app(PAGE, panel="inside", run=run)
    assert not at.exception and "They differ on" in said(at)
    assert {"lab_weights", "lab_maps"} <= charts(at)
    at = app(PAGE, panel="fidelity", run=run)
    assert not at.exception and "ECE: teacher" in said(at)
    assert {"lab_fidelity", "lab_reliability"} <= charts(at)


def test_mistake_is_shown_next_to_the_correct_code(app):
    at = app(PAGE, panel="break-it", mistake="mean", break_temperature="4")
    assert "Press **Start**" in said(at) and "reduction='mean'" in "".join(code.value for code in at.code)
    at.button(key="lab_start").click().run()
    wait_for_end(at, session_keys.LAB_RUN)
    assert not at.exception and "is **0.1 times** as long as that of correct code" in said(at)
    link = query(at)
    assert link == {
        "panel": "break-it",
        "mistake": "mean",
        "break_temperature": "4.0",
        "lab_run": at.session_state[session_keys.LAB_RUN],
    }
    again = app(PAGE, **link)
    assert not again.exception and "is **0.1 times** as long" in said(again)
    again.segmented_control(key="lab_mistake").set_value("swapped").run()
    assert not again.exception and "Press **Start**" in said(again), "another mistake is another run"
    listed = app("runs")
    assert not listed.exception and list(listed.dataframe[0].value["name"]) == [
        "mlp-128 taught with a mistake: Mean over classes ×3"
    ]
    listed.button(key="open").click().run()
    assert not listed.exception and "is **0.1 times** as long" in said(listed)
