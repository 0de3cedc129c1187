"""The report of a run: one HTML file."""

import ast
import json
import re
from html.parser import HTMLParser

import pytest

from kd import paths
from kd.config.distil import DistilConfig
from kd.evaluation import comparison
from kd.experiments.distil import Distillation
from kd.reports import report
from kd.store import runs
from tests.helpers import small_teacher


@pytest.fixture
def run(mnist, monkeypatch, tmp_path):
    monkeypatch.setenv("KD_HOME", str(tmp_path))
    experiment = Distillation(
        DistilConfig(student="mlp-30", epochs=2, schedule=((3, "temperature", 2.0),)),
        mnist,
        small_teacher("mlp-32"),
    )
    records = list(experiment.records())
    run = runs.save(
        runs.new_id(),
        experiment.config,
        "done",
        [record.row() for record in records],
        experiment.trained,
        experiment.measures(records[-1]),
        runs.owner_digest("me" * 20),
    )
    runs.rename(run.id, "<script>alert('x')</script>", "me" * 20)
    return runs.load(run.id)


class Parsed(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.loads, self.cells, self._in = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.loads += [value for name, value in attributes if name in ("src", "href")]
        self._in = tag in ("td", "h1")

    def handle_data(self, data):
        if self._in:
            self.cells.append(data)


def test_report_is_self_contained(run, mnist):
    text = report.page(run)
    parsed = Parsed(text)
    assert parsed.loads == [], "no file and no address"
    accuracy = run.measures["models"]["student"]["test_accuracy"]
    assert f"{accuracy:.2%}" in parsed.cells and "soft_weight" in parsed.cells and "0.9" in parsed.cells
    assert len(re.findall(r'class="plotly-graph-div"', text)) == 2
    assert "Latency" not in text and len(text) > 3e6, "with Plotly inside"


def test_report_of_a_measured_run_has_latencies(run, mnist):
    measured = comparison.measured(run, mnist, small_teacher("mlp-32"), rounds=2, seconds=0.0)
    text = report.page(run, measured)
    assert (
        "<h2>Latency</h2>" in text
        and "Confusion matrix of the student" in text
        and "Confusion matrix of the teacher" not in text
    )
    assert "95% interval" in text and '"ink"' not in text


def test_report_charts_offer_no_upload(run):
    configs = [json.loads(text) for text in re.findall(r'\{[^{}]*"displaylogo"[^{}]*\}', report.page(run))]
    assert len(configs) == 2
    for config in configs:
        assert config["showSendToCloud"] is False and "plotlyServerURL" not in config


def test_every_chart_is_drawn_with_a_config_of_ours():
    """Plotly's default offers to upload the chart. The app's own charts: tests/chart_layout.test.js."""
    drawn = [
        (path.name, call)
        for folder in ("kd", "pages", "benchmarks")
        for path in (paths.ROOT / folder).rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr in ("plotly_chart", "to_html", "write_html")
    ]
    assert drawn
    for name, call in drawn:
        given = {argument.arg: ast.unparse(argument.value) for argument in call.keywords}
        assert given.get("config") == "_TOOLBAR", f"{name}: {ast.unparse(call)}"


def test_run_name_in_a_report_is_escaped(run):
    text = report.page(run)
    assert "<script>alert" not in text and "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;" in text
