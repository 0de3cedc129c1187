"""The picture of what compression costs and brings."""

import plotly.graph_objects as go
import pytest

from kd.figures import compression


def row(who, title, kilobytes, wrong, seconds=None):
    return {
        "who": who,
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


def test_each_network_goes_its_way_over_the_cost():
    figure = compression.way(ROWS, "file_bytes", "KB of the file", recovered=False)
    go.Figure(figure)
    distilled, never = figure["data"]
    assert (distilled["name"], distilled["x"], distilled["y"], distilled["text"]) == (
        "distilled",
        [400, 100],
        [0.02, 0.5],
        ["original", "compressed"],
    )
    assert never["y"] == [0.03, None]  # none wrong has no place on the axis
    assert (
        figure["layout"]["xaxis"]["tickvals"][:4] == [100, 200, 500, 1000]
        and figure["layout"]["xaxis"]["ticktext"][3] == "1,000"
    )


def test_what_was_not_timed_is_left_out():
    figure = compression.way(ROWS, "seconds", "ms", recovered=True)
    assert [(trace["name"], trace["x"]) for trace in figure["data"]] == [
        ("recovered with the teacher", [pytest.approx(1.0), pytest.approx(0.5)])
    ]


def test_a_network_without_a_control_is_not_called_distilled():
    assert compression.way(ROWS[:2], "file_bytes", "KB", recovered=False)["data"][0]["name"] == "network"
    go.Figure(compression.way([], "file_bytes", "KB", recovered=False))
