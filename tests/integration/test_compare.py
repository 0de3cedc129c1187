"""Comparing stored runs: what is measured and stored, and the Pareto front."""

import dataclasses
import json

import plotly.graph_objects as go
import pytest

from kd.config.distil import DistilConfig
from kd.errors import UserError
from kd.evaluation import comparison
from kd.evaluation.comparison import ParetoPoint
from kd.experiments.distil import Distillation
from kd.figures.comparison import article, confusion, overlaid, pareto
from kd.metrics.latency import BATCHES, ONNX
from kd.store import runs
from tests.helpers import small_teacher


@pytest.fixture
def run(mnist, monkeypatch, tmp_path):
    monkeypatch.setenv("KD_HOME", str(tmp_path))
    experiment = Distillation(DistilConfig(student="mlp-30", epochs=2), mnist, small_teacher("mlp-32"))
    records = list(experiment.records())
    return runs.save(
        runs.new_id(),
        experiment.config,
        "done",
        [record.row() for record in records],
        experiment.trained,
        experiment.measures(records[-1]),
    )


def measured(run, mnist, **more):
    return comparison.measured(run, mnist, small_teacher("mlp-32"), rounds=2, seconds=0.0, **more)


def test_measures_include_the_teacher_and_are_stored(run, mnist):
    assert comparison.stored(run) is None
    result = measured(run, mnist)
    assert comparison.stored(run) == result and json.loads(json.dumps(result)) == result
    assert set(result["models"]) == {"student", "control", "teacher"}
    assert result["test_images"] == len(mnist.test)
    for name, model in result["models"].items():
        assert model["test_accuracy"] == pytest.approx(run.measures["models"][name]["test_accuracy"])
        assert model["interval"][0] < model["test_accuracy"] < model["interval"][1]
    student, teacher = result["models"]["student"], result["models"]["teacher"]
    assert student["file_bytes"] == (run.folder / "student.safetensors").stat().st_size
    assert teacher["file_bytes"] is None
    assert teacher["architecture"] == "mlp-32" and teacher["agreement"] == 1
    for model, exported in ((student, True), (teacher, True), (result["models"]["control"], False)):
        assert comparison.latency(model, 256, 1)["median"] > 0
        assert (comparison.latency(model, 256, 1, ONNX) is not None) == exported


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"format": 0, "models": {}}', '{"format": 1, "models": {"student": {}}}']
)
def test_damaged_measures_count_as_not_measured(run, mnist, damage):
    measured(run, mnist)
    (run.folder / comparison.FILE).write_text(damage)
    assert comparison.stored(run) is None


def test_missing_network_file_is_reported(run, mnist):
    (run.folder / "student.safetensors").unlink()
    with pytest.raises(UserError, match="student.safetensors is missing"):
        measured(run, mnist)


def test_measurement_during_training_is_not_kept(run, mnist):
    with pytest.raises(UserError, match="Training began during this measurement"):
        measured(run, mnist, disturbed=lambda: True)
    assert comparison.stored(run) is None
    asked = []
    measured(run, mnist, disturbed=lambda: asked.append(1))
    assert comparison.stored(run) and len(asked) > len(BATCHES), "asked repeatedly, not only at the end"


def test_table_has_a_line_per_batch_and_threads(run, mnist):
    result = measured(run, mnist)
    lines = comparison.text({run.id: result}).splitlines()
    verdict = comparison.verdict(result, 1, 1)
    faster, points = f"{verdict['faster']:.1f}x", f"{verdict['points']:.2f}"
    assert [line for line in lines if "mlp-30" in line and faster in line and points in line]
    conditions = {(row["batch"], row["threads"]) for row in result["models"]["student"]["latency"]}
    assert sum(line.startswith(run.id) for line in lines) == len(conditions)


# -- accuracy against latency ---------------------------------------------------------


def point(seconds, accuracy, **changes):
    given = ParetoPoint("id", "name", "student", accuracy, seconds, 0.1 * seconds, 1000)
    return dataclasses.replace(given, **changes)


def test_pareto_front_omits_dominated_points():
    slow, quick, beaten, same = point(4, 0.99), point(1, 0.97), point(2, 0.96), point(3, 0.97)
    between = point(2.5, 0.98)
    assert comparison.frontier([slow, same, beaten, between, quick]) == [quick, between, slow]
    assert comparison.frontier([]) == []


def measures(accuracy=0.98, milliseconds=1.0, when="2026-01-01"):
    def model(accuracy, took, size):
        latency = [{"batch": 1, "threads": 1, "runtime": "PyTorch", "median": took / 1e3, "iqr": 0.0}]
        return {
            "architecture": "cnn",
            "test_accuracy": accuracy,
            "test_errors": round(1e4 * (1 - accuracy)),
            "bytes": size,
            "latency": latency,
        }

    return {
        "when": when,
        "models": {"student": model(accuracy, milliseconds, 100), "teacher": model(0.995, 10.0, 1000)},
    }


def test_verdict_compares_student_and_teacher():
    verdict = comparison.verdict(measures(), 1, 1)
    assert verdict == pytest.approx({"faster": 10.0, "less_time": 0.9, "points": 1.5, "smaller": 10.0})
    assert comparison.verdict(measures(), 256, 1) is None, "not measured at this batch size"
    assert comparison.verdict({"models": {"teacher": measures()["models"]["teacher"]}}, 1, 1) is None


def test_fastest_student_is_listed_for_each_price():
    measured_runs = {
        "dear": measures(0.987, 1.0),
        "fair": measures(0.991, 2.0),
        "slow": measures(0.9905, 3.0),
        "near": measures(0.9935, 5.0),
    }
    best = comparison.bargains(measured_runs, 1, 1)
    assert {price: (id, round(verdict["faster"], 3)) for price, (id, verdict) in best.items()} == {
        1: ("dear", 10),
        0.5: ("fair", 5),
        0.15: ("near", 2),
    }
    assert comparison.bargains({"far": measures(0.9)}, 1, 1) == {}
    assert comparison.bargains(measured_runs, 256, 1) == {}
    lines = comparison.text(measured_runs)
    assert "1 image, 1 thread, at most 0.5 point: cnn (5.0x for 0.40)" in lines


def test_teacher_shared_by_runs_is_one_point():
    points = comparison.points({"a": ("one", measures()), "b": ("two", measures(when="2026-02-01"))}, 1, 1)
    assert [(point.role, point.run) for point in points] == [
        ("teacher", "b"),
        ("student", "a"),
        ("student", "b"),
    ]
    assert points[0].name == "cnn" and comparison.points({"a": ("one", measures())}, 2, 1) == []


def test_differences_lists_only_settings_that_differ():
    one, other = DistilConfig(seed=1).to_dict(), DistilConfig(method="dkd", seed=1).to_dict()
    assert comparison.differences(one, one, one) == {}
    assert set(comparison.differences(one, one, other)) == {"method", "target_weight", "nontarget_weight"}
    assert comparison.differences(one, other) == {
        "method": ("hinton", "dkd"),
        "target_weight": (None, 1.0),
        "nontarget_weight": (None, 2.0),
    }


def test_plotly_accepts_all_comparison_figures(run, mnist):
    result = measured(run, mnist)
    points = comparison.points({run.id: (run.name, result)}, 1, 1)
    rows = run.metrics()
    figures = [
        pareto(points, 1),
        pareto([], 32),
        overlaid({"a": (rows, 2), "b": (rows, 2)}),
        *article(rows, rows),
        confusion(result["models"]["student"]["confusion"], "student"),
    ]
    for figure in figures:
        for trace in figure["data"]:
            trace.get("textfont", {}).pop("color", None)  # "ink" is the app's own: see kd.ui.charts.chart
        go.Figure(figure)
    marks = [trace for trace in figures[0]["data"] if trace["mode"] == "markers"]
    assert [trace["name"] for trace in marks] == ["teacher", "student", "control"]
