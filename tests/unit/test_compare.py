"""Stored runs against each other: what is measured and kept, and which are worth their time."""

import dataclasses
import json

import plotly.graph_objects as go
import pytest

from kd.config.distil import DistilConfig
from kd.errors import UserError
from kd.evaluation import comparison
from kd.evaluation.comparison import Point
from kd.experiments.base import Distillation
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


def test_a_run_is_measured_with_its_teacher_and_kept(run, mnist):
    assert comparison.stored(run) is None
    found = measured(run, mnist)
    assert comparison.stored(run) == found and json.loads(json.dumps(found)) == found
    assert set(found["models"]) == {"student", "control", "teacher"} and found["test_images"] == len(
        mnist.test
    )
    for name, model in found["models"].items():
        assert model["test_accuracy"] == pytest.approx(run.measures["models"][name]["test_accuracy"])
        assert model["interval"][0] < model["test_accuracy"] < model["interval"][1]
    student, teacher = found["models"]["student"], found["models"]["teacher"]
    assert (
        student["file_bytes"] == (run.folder / "student.safetensors").stat().st_size
        and teacher["file_bytes"] is None
    )
    assert teacher["architecture"] == "mlp-32" and teacher["agreement"] == 1
    for model, exported in ((student, True), (teacher, True), (found["models"]["control"], False)):
        assert comparison.latency(model, 256, 1)["median"] > 0
        assert (comparison.latency(model, 256, 1, ONNX) is not None) == exported


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"format": 0, "models": {}}', '{"format": 1, "models": {"student": {}}}']
)
def test_what_cannot_be_read_was_not_measured(run, mnist, damage):
    measured(run, mnist)
    (run.folder / comparison.FILE).write_text(damage)
    assert comparison.stored(run) is None


def test_a_run_that_is_gone_is_told_in_plain_words(run, mnist):
    (run.folder / "student.safetensors").unlink()
    with pytest.raises(UserError, match="student.safetensors is missing"):
        measured(run, mnist)


def test_times_taken_while_something_trained_are_not_kept(run, mnist):
    with pytest.raises(UserError, match="began to train while this was measured"):
        measured(run, mnist, disturbed=lambda: True)
    assert comparison.stored(run) is None
    asked = []
    measured(run, mnist, disturbed=lambda: asked.append(1))
    assert comparison.stored(run) and len(asked) > len(BATCHES), "now and then, not at the end alone"


def test_a_measured_run_is_told_in_a_line_for_each_batch_and_number_of_threads(run, mnist):
    found = measured(run, mnist)
    lines = comparison.text({run.id: found}).splitlines()
    worth = comparison.verdict(found, 1, 1)
    assert [
        line
        for line in lines
        if "mlp-30" in line and f"{worth['faster']:.1f}x" in line and f"{worth['points']:.2f}" in line
    ]
    assert sum(line.startswith(run.id) for line in lines) == len(
        {(row["batch"], row["threads"]) for row in found["models"]["student"]["latency"]}
    )


# -- which are worth their time -------------------------------------------------------


def point(seconds, accuracy, **about):
    return dataclasses.replace(
        Point("id", "name", "student", accuracy, seconds, 0.1 * seconds, 1000), **about
    )


def test_the_frontier_is_what_none_beats():
    slow, quick, beaten, same = point(4, 0.99), point(1, 0.97), point(2, 0.96), point(3, 0.97)
    between = point(2.5, 0.98)
    assert comparison.frontier([slow, same, beaten, between, quick]) == [quick, between, slow]
    assert comparison.frontier([]) == []


def measures(accuracy=0.98, milliseconds=1.0, when="2026-01-01"):
    def model(share, took, size):
        latency = [{"batch": 1, "threads": 1, "runtime": "PyTorch", "median": took / 1e3, "iqr": 0.0}]
        return {
            "architecture": "cnn",
            "test_accuracy": share,
            "test_errors": round(1e4 * (1 - share)),
            "bytes": size,
            "latency": latency,
        }

    return {
        "when": when,
        "models": {"student": model(accuracy, milliseconds, 100), "teacher": model(0.995, 10.0, 1000)},
    }


def test_the_verdict_is_computed_from_the_measures():
    found = comparison.verdict(measures(), 1, 1)
    assert found == pytest.approx({"faster": 10.0, "less_time": 0.9, "points": 1.5, "smaller": 10.0})
    assert comparison.verdict(measures(), 256, 1) is None, "it was not measured so"
    assert comparison.verdict({"models": {"teacher": measures()["models"]["teacher"]}}, 1, 1) is None


def test_the_quickest_student_is_told_for_each_price():
    found = {
        "dear": measures(0.987, 1.0),
        "fair": measures(0.991, 2.0),
        "slow": measures(0.9905, 3.0),
        "near": measures(0.9935, 5.0),
    }
    best = comparison.bargains(found, 1, 1)
    assert {price: (id, round(worth["faster"], 3)) for price, (id, worth) in best.items()} == {
        1: ("dear", 10),
        0.5: ("fair", 5),
        0.15: ("near", 2),
    }
    assert (
        comparison.bargains({"far": measures(0.9)}, 1, 1) == {} and comparison.bargains(found, 256, 1) == {}
    )
    lines = comparison.text(found)
    assert "1 image, 1 thread, at most 0.5 point: cnn (5.0x for 0.40)" in lines


def test_a_teacher_of_several_runs_is_one_point():
    found = comparison.points({"a": ("one", measures()), "b": ("two", measures(when="2026-02-01"))}, 1, 1)
    assert [(found.role, found.run) for found in found] == [
        ("teacher", "b"),
        ("student", "a"),
        ("student", "b"),
    ]
    assert found[0].name == "cnn" and comparison.points({"a": ("one", measures())}, 2, 1) == []


def test_only_what_differs_is_told_of_two_configs():
    one, other = DistilConfig(seed=1).to_dict(), DistilConfig(method="dkd", seed=1).to_dict()
    assert comparison.differences(one, one, one) == {} and set(comparison.differences(one, one, other)) == {
        "method",
        "target_weight",
        "nontarget_weight",
    }
    assert comparison.differences(one, other) == {
        "method": ("hinton", "dkd"),
        "target_weight": (None, 1.0),
        "nontarget_weight": (None, 2.0),
    }


def test_plotly_takes_all_figures(run, mnist):
    found = measured(run, mnist)
    points = comparison.points({run.id: (run.name, found)}, 1, 1)
    rows = run.metrics()
    figures = [
        pareto(points, 1),
        pareto([], 32),
        overlaid({"a": (rows, 2), "b": (rows, 2)}),
        *article(rows, rows),
        confusion(found["models"]["student"]["confusion"], "student"),
    ]
    for figure in figures:
        for trace in figure["data"]:
            trace.get("textfont", {}).pop("color", None)  # "ink" is the page's own: see kd.ui.charts.chart
        go.Figure(figure)
    marks = [trace for trace in figures[0]["data"] if trace["mode"] == "markers"]
    assert [trace["name"] for trace in marks] == ["teacher", "student", "control"]
