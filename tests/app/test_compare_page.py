"""The Compare page in Streamlit's test harness, with given times in place of measured ones."""

import pytest

from kd.config.distil import DistilConfig
from kd.evaluation import comparison
from kd.metrics.latency import BATCHES, ONNX, PYTORCH, thread_counts
from kd.models import registry
from kd.store import runs
from kd.ui.compare import panels
from kd.ui.shell import session_keys, shared
from tests.apps import said
from tests.helpers import MEASURES

pytestmark = pytest.mark.app
SECONDS = {"mlp-30": 1e-3, "mlp-32": 2e-3, "cnn": 8e-3}


@pytest.fixture
def pair(app):
    """Return two runs with the same student, and one with another."""
    found = []
    for student, name in (("mlp-30", "one"), ("mlp-30", "two"), ("mlp-32", "three")):
        trained = {"student": registry.build(student, 1), "control": registry.build(student, 2)}
        config = DistilConfig(student=student, epochs=1)
        found.append(runs.save(runs.new_id(), config, "done", [], trained, MEASURES, None, name))
    return found


@pytest.fixture
def times(monkeypatch):
    """Return the list of networks of each measurement, and a dict whose noise can be set."""
    timed, how = [], {"noise": 0.1}

    def compare(networks, between, **options):
        timed.append(sorted(networks))
        between()
        return {
            name: [
                {
                    "batch": batch,
                    "threads": count,
                    "runtime": runtime,
                    "median": SECONDS[name],
                    "iqr": how["noise"] * SECONDS[name],
                    "images_per_second": batch / SECONDS[name],
                    "form": "as it is",
                }
                for batch in BATCHES
                for count in thread_counts()
                for runtime in (PYTORCH, ONNX)
            ]
            for name in networks
        }

    monkeypatch.setattr(comparison, "compare", compare)
    monkeypatch.setattr(comparison, "_exported", lambda networks: {})
    return timed, how


def test_sizes_and_accuracies_are_shown_without_measuring(app, pair):
    at = app("compare")
    table = at.dataframe[0].value
    assert not at.exception and "Measuring takes about" in said(at)
    assert table["ms"].isna().all() and table["× teacher's speed"].isna().all()
    known = ["accuracy", "± 95%", "control", "points lost", "weights", "multiplications", "file KB"]
    assert table[known].notna().all().all() and 23860 in table["weights"].tolist()
    assert "times as fast" not in said(at)


def test_each_architecture_is_measured_once_for_all_runs(app, pair, times):
    at = app("compare")
    at.button(key="measure").click().run()
    assert not at.exception and times[0] == [["cnn", "mlp-30", "mlp-32"]]
    table = at.dataframe[0].value.set_index("run")
    assert table["ms"].to_dict() == pytest.approx({"one": 1.0, "two": 1.0, "three": 2.0})
    assert table["± ms"].to_dict() == pytest.approx({"one": 0.05, "two": 0.05, "three": 0.1})
    assert table["× teacher's speed"].to_dict() == pytest.approx({"one": 8.0, "two": 8.0, "three": 4.0})
    assert table["× from, to"]["one"] == "7.2 to 8.8" and table["± ONNX ms"].notna().all()
    assert "8.0 times as fast (7.2 to 8.8)" in said(at) and comparison.ARTICLE in said(at)
    assert at.button(key="measure").label == "Measure all again"
    at.segmented_control(key="compare_batch").set_value(256).run()
    assert not at.exception and at.dataframe[0].value["images/s"].iloc[0] > 0


def test_nothing_is_claimed_where_times_vary(app, pair, times):
    times[1]["noise"] = 0.6
    at = app("compare")
    at.button(key="measure").click().run()
    assert not at.exception and at.dataframe[0].value["× teacher's speed"].isna().all()
    assert "times as fast" not in said(at) and "No student is clearly faster" in said(at)
    assert at.dataframe[0].value["± ms"].notna().all()


def test_nothing_is_measured_during_training(app, pair, times, monkeypatch):
    at = app("compare")
    monkeypatch.setattr(type(shared.manager()), "busy", lambda self: True)
    at.button(key="measure").click().run()
    assert not at.exception and "Try again when it has finished" in said(at) and times[0] == []
    assert comparison.stored(pair[0]) is None


def test_cancelling_ends_the_measurement(app, pair, times, monkeypatch):
    at = app("compare")
    at.session_state[session_keys.MEASURE] = [run.id for run in pair]
    monkeypatch.setattr(
        comparison, "measure", lambda *_, **__: panels.st.stop()
    )  # as a rerun ends the script
    at.run()
    assert at.button(key="measure_cancel").label == "Cancel"
    at.button(key="measure_cancel").click().run()
    assert not at.exception and session_keys.MEASURE not in at.session_state
    assert "The measurement was cancelled" in said(at) and comparison.stored(pair[0]) is None
    assert not any(button.key == "measure_cancel" for button in at.button)
