"""Figures of what compression costs and saves."""

import plotly.graph_objects as go
import pytest

from kd.figures import compression


def row(role, title, kilobytes, wrong, seconds=None):
    return {
        "who": role,
        "title": title,
        "file_bytes": 1024 * kilobytes,
        "zipped_bytes": 512 * kilobytes,
        "seconds": seconds,
        "wrong": wrong,
    }


ROWS = [
    row("student", "original", 400, 0.02, 1e-3),
    row("student", "compressed", 100, 0.5, 5e-4),
    row("alone", "original", 400, 0.03),
    row("alone", "compressed", 100, 0.0),
]


def test_compression_path_follows_each_network():
    figure = compression.way(ROWS, "file_bytes", "file size (KB)", recovered=False)
    go.Figure(figure)
    distilled, never = figure["data"]
    assert (distilled["name"], distilled["x"], distilled["y"], distilled["text"]) == (
        "distilled",
        [400, 100],
        [0.02, 0.5],
        ["original", "compressed"],
    )
    assert never["y"] == [0.03, None]  # an error rate of 0 has no place on a logarithmic axis
    axis = figure["layout"]["xaxis"]
    assert axis["tickvals"][:4] == [100, 200, 500, 1000] and axis["ticktext"][3] == "1,000"


def test_networks_without_latency_are_left_out():
    figure = compression.way(ROWS, "seconds", "ms", recovered=True)
    assert [(trace["name"], trace["x"]) for trace in figure["data"]] == [
        ("fine-tuned with the teacher", [pytest.approx(1.0), pytest.approx(0.5)])
    ]


def test_network_without_control_is_not_called_distilled():
    assert compression.way(ROWS[:2], "file_bytes", "KB", recovered=False)["data"][0]["name"] == "network"
    go.Figure(compression.way([], "file_bytes", "KB", recovered=False))
