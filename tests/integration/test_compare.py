"""Comparing stored runs: what is measured and stored, and the Pareto front."""

import dataclasses
import json

import plotly.graph_objects as go
import pytest

from kd.config.distil import DistilConfig
from kd.errors import UserError
from kd.evaluation import comparison, speeds, text
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
    for model in (student, teacher):
        assert comparison.latency(model, 256, 1)["median"] > 0
        assert comparison.latency(model, 256, 1, ONNX)["median"] > 0
    assert result["models"]["control"]["latency"] == student["latency"], "the same architecture"


def test_runs_of_one_architecture_share_its_latency(run, mnist, monkeypatch):
    models = {name: run.model(name) for name in run.models}
    other = runs.save(runs.new_id(), run.config, "done", [], models, run.measures)
    timed, real = [], comparison.compare

    def compare(networks, **options):
        timed.append(list(networks))
        return real(networks, **options)

    monkeypatch.setattr(comparison, "compare", compare)
    teacher = small_teacher("mlp-32")
    measures, problems = comparison.measure([run, other], mnist, lambda run: teacher, rounds=2, seconds=0.0)
    assert timed == [["mlp-30", "mlp-32"]] and not problems
    one, two = (measures[id]["models"] for id in (run.id, other.id))
    assert one["student"]["latency"] == two["student"]["latency"] == two["control"]["latency"]
    assert one["teacher"]["latency"] == two["teacher"]["latency"] != one["student"]["latency"]


def test_quality_is_measured_once_and_latency_again(run, mnist, monkeypatch):
    before = measured(run, mnist)
    monkeypatch.setattr(comparison.classification, "quality", lambda *_: pytest.fail("measured again"))
    after = measured(run, mnist)
    assert after["models"]["student"]["confusion"] == before["models"]["student"]["confusion"]
    assert after["models"]["student"]["latency"] != before["models"]["student"]["latency"]


def test_damaged_run_does_not_stop_the_others(run, mnist):
    models = {name: run.model(name) for name in run.models}
    other = runs.save(runs.new_id(), run.config, "done", [], models, run.measures)
    (run.folder / "student.safetensors").unlink()
    teacher = small_teacher("mlp-32")
    measures, problems = comparison.measure([run, other], mnist, lambda run: teacher, rounds=2, seconds=0.0)
    assert set(measures) == {other.id} and "student.safetensors is missing" in str(problems[run.id])


def test_progress_is_told_often_and_ends_below_1(run, mnist):
    told = []
    measured(run, mnist, progress=lambda share, what: told.append((share, what)))
    shares = [share for share, _ in told]
    assert shares == sorted(shares) and 0 <= shares[0] and 0.8 < shares[-1] <= 1 and len(told) > 20
    assert told[0][1] == f"Classifying the test images: {run.name}" and told[-1][1].startswith("Timing 2")


def test_sizes_and_accuracies_are_known_without_measuring(run, mnist):
    facts, model = comparison.known(run), measured(run, mnist)["models"]["student"]
    same = ("architecture", "parameters", "macs", "memory", "bytes", "file_bytes", "test_accuracy")
    assert {name: facts[name] for name in same} == {name: model[name] for name in same}
    assert facts["interval"] == pytest.approx(model["interval"])
    tested = run.measures["models"]
    assert facts["control"] == tested["control"]["test_accuracy"]
    assert facts["points"] == pytest.approx(100 * (facts["teacher"] - facts["test_accuracy"]))
    assert run.id in text.without_measuring([run]) and "23,860" in text.without_measuring([run])


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "{",
        "[]",
        '{"format": 0, "models": {}}',
        '{"format": 1, "models": {"student": {}}}',
        '{"format": 2, "models": {"student": {"latency": [1], "architecture": "cnn"}}}',
    ],
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
    lines = text.table({run.id: result}).splitlines()
    verdict = comparison.verdict(result, 1, 1)
    faster, points = f"{verdict['low']:.1f}-{verdict['high']:.1f}x", f"{verdict['points']:.2f}"
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


def measures(accuracy=0.98, milliseconds=1.0, when="2026-01-01", student="mlp-30", noise=0.0):
    def model(accuracy, took, size, architecture):
        iqr = noise * took / 1e3
        latency = [{"batch": 1, "threads": 1, "runtime": "PyTorch", "median": took / 1e3, "iqr": iqr}]
        return {
            "architecture": architecture,
            "test_accuracy": accuracy,
            "test_errors": round(1e4 * (1 - accuracy)),
            "bytes": size,
            "latency": latency,
        }

    return {
        "when": when,
        "machine": "here",
        "models": {
            "student": model(accuracy, milliseconds, 100, student),
            "teacher": model(0.995, 10.0, 1000, "cnn"),
        },
    }


def test_verdict_compares_student_and_teacher():
    verdict = comparison.verdict(measures(), 1, 1)
    assert verdict == pytest.approx(
        {"faster": 10, "low": 10, "high": 10, "clear": 1, "less_time": 0.9, "points": 1.5, "smaller": 10}
    )
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
    lines = text.table(measured_runs)
    assert "1 image, 1 thread, at most 0.5 point: mlp-30 (5.0-5.0x for 0.40)" in lines


def test_nothing_is_claimed_of_noisy_or_separate_times():
    assert comparison.verdict(measures(noise=0.1), 1, 1)["clear"]
    noisy = measures(noise=0.5)
    verdict = comparison.verdict(noisy, 1, 1)
    assert (verdict["low"], verdict["high"]) == pytest.approx((6.0, 16.667), abs=0.01)
    apart = measures()
    apart["models"]["student"]["latency_when"] = "2026-01-02"
    equal = measures(milliseconds=9.9, noise=0.05)  # the range includes 1
    for unclear in (noisy, apart, equal):
        assert not comparison.verdict(unclear, 1, 1)["clear"]
        assert comparison.bargains({"run": measures(0.99) | {"models": unclear["models"]}}, 1, 1) == {}
        assert " ?" in text.table({"run": unclear}) and "at most" not in text.table({"run": unclear})
    assert "0.500 +- 0.125" in text.table({"run": measures(milliseconds=0.5, noise=0.5)})


def test_each_architecture_has_its_latest_latency_everywhere():
    measured_runs = {
        "a": measures(milliseconds=1.0, when="2026-01-01"),
        "b": measures(milliseconds=4.0, when="2026-03-01"),
        "c": measures(milliseconds=7.0, when="2026-02-01", student="mlp-32"),
        "d": measures(milliseconds=2.0, when="2026-02-01") | {"machine": "elsewhere"},
    }
    found = speeds.unified(measured_runs)
    taken = {id: comparison.latency(found[id]["models"]["student"], 1, 1)["median"] for id in found}
    assert taken == {"a": 4e-3, "b": 4e-3, "c": 7e-3, "d": 2e-3}
    times = {found[id]["models"]["teacher"]["latency_when"] for id in "abc"}
    assert times == {"2026-03-01"}
    clear = {id: comparison.verdict(found[id], 1, 1)["clear"] for id in found}
    assert clear == {"a": 1, "b": 1, "c": 0, "d": 1}, "the teacher was measured again without c's student"


def test_expected_duration_counts_each_architecture_once():
    small, large = (speeds.expected_seconds([name], [], 0) for name in ("mlp-30", "vit"))
    assert 1 < small < large < 120
    assert speeds.expected_seconds(["mlp-30", "mlp-30", "vit"], [], 0) == pytest.approx(small + large)
    assert speeds.expected_seconds(["vit"], ["vit"], 10_000) > large
    assert (speeds.duration(2.0), speeds.duration(43.0)) == ("5 seconds", "45 seconds")
    assert speeds.duration(200.0) == "3 minutes"


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
    for trace in marks:
        assert trace["customdata"] == trace["error_x"]["array"], (
            "the interquartile range in words and as a line"
        )
    assert [trace["name"] for trace in marks] == ["teacher", "student", "control"]
