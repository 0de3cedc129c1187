"""Figures are valid Plotly, have one colour per role and stay small."""

import itertools
import tomllib

import numpy as np
import plotly.graph_objects as go
import pytest
import torch

from kd import paths
from kd.figures import base, comparison, training
from kd.figures.lab import DIGIT_COLOURS


def rows(count: int) -> list[dict[str, float]]:
    return [
        {
            "step": i + 1,
            "epoch": (i + 1) / 100,
            "loss student soft": 1 / (i + 1),
            "loss student hard": 0.0,
            "loss control hard": 2 / (i + 1),
            "validation student": 0.9,
            "validation control": 0.8,
            "whole_validation": float((i + 1) % 100 == 0),
        }
        for i in range(count)
    ]


CHANGES = [(10, "temperature", 8.0), (20, "soft_weight", 0.5)]


@pytest.mark.parametrize(
    "figure",
    [
        training.loss(rows(30), 5, CHANGES),
        training.loss([], 5),
        training.accuracy(rows(30), 5, CHANGES, 0.99),
        training.accuracy([], 5),
        training.bars({"teacher": torch.arange(10.0), "student": torch.zeros(10)}, 4.0),
        training.bars({}),
    ],
)
def test_plotly_accepts_training_figures(figure):
    go.Figure(figure)


def test_change_of_a_setting_is_marked_at_its_step():
    layout = training.loss(rows(30), 5, CHANGES)["layout"]
    assert [shape["x0"] for shape in layout["shapes"]] == [0.1, 0.2]
    assert [note["text"] for note in layout["annotations"]] == ["T → 8", "soft weight → 0.5"]


def points(found, role="student, soft"):
    return next(trace["y"] for trace in found["data"] if trace["name"] == role)


def record(step, soft, whole=0.0):
    return {"step": step, "epoch": step / 100, "loss student soft": soft, "whole_validation": whole}


def test_loss_of_a_single_step_is_averaged_with_those_before():
    usual = [record(20 * i, 0.5) for i in range(1, 6)]
    steps = [record(101, 4.5), record(102, 0.5)]
    # 20 batches: 19 of a mean of 0.5 and the one of 4.5, of a record of 20 of which all are weighted.
    assert points(training.loss(usual + steps, 5)) == pytest.approx(
        [0.5] * 5 + [(20 * 0.5 + 4.5) / 21, (20 * 0.5 + 4.5 + 0.5) / 22], abs=1e-6
    )


def test_losses_of_a_run_made_of_single_steps_stay_as_they_are():
    rows = [record(i, 1.0 + i % 3) for i in range(1, 31)]
    assert points(training.loss(rows, 5)) == [row["loss student soft"] for row in rows]


def test_first_loss_and_losses_of_usual_records_stay_as_they_are():
    rows = [record(1, 2.3), record(40, 1.0), record(75, 0.8), record(100, 0.7, 1.0), record(140, 0.6)]
    assert points(training.loss(rows, 5)) == [row["loss student soft"] for row in rows]


def test_loss_after_a_change_is_not_averaged_with_those_before():
    rows = [record(20, 0.5), record(40, 0.5), record(41, 8.0), record(42, 10.0)]
    assert points(training.loss(rows, 5, [(40, "temperature", 16.0)])) == [0.5, 0.5, 8.0, 9.0]


def test_loss_by_epoch_covers_the_whole_epoch():
    live = [record(60, 1.0), record(100, 0.5, 1.0), record(199, 0.4), record(200, 3.0, 1.0)]
    loss, _ = comparison.article([{"epoch": 1, "loss teacher hard": 0.2, "whole_validation": 1.0}], live)
    assert points(loss, "student") == pytest.approx([0.8, 0.426], abs=1e-6)
    assert points(loss, "teacher") == [0.2]


def test_zero_loss_terms_are_not_drawn():
    names = [trace["name"] for trace in training.loss(rows(30), 5)["data"]]
    assert names == ["student, soft", "control"]


def test_loss_terms_differ_without_colour():
    terms = ["soft", "hard", "distance", "angle"]
    row = {
        "epoch": 0.1,
        "step": 1,
        **{f"loss student {term}": 0.5 for term in terms},
        "loss control hard": 0.7,
    }
    traces = training.loss([row], 5)["data"]
    assert [trace["name"] for trace in traces] == [*(f"student, {term}" for term in terms), "control"]
    assert len({trace["line"]["dash"] for trace in traces[:4]}) == 4


def test_thinning_keeps_the_ends_of_epochs():
    trace = training.accuracy(rows(5001), 60)["data"][0]
    assert len(trace["x"]) < 600
    assert trace["x"][-1] == 50.01
    assert set(range(1, 51)) <= set(trace["x"])


def test_bars_are_the_softmax_at_the_temperature():
    logits = torch.tensor([0.0, 2.0, 4.0, *[-9.0] * 7])
    bars = training.bars({"student": logits}, 2.0)["data"][0]["y"]
    exponentials = [2.718281828459045 ** (value / 2) for value in logits.tolist()]
    assert bars == pytest.approx([e / sum(exponentials) for e in exponentials], abs=1e-5)


def test_roles_differ_with_and_without_colour():
    for marks in (base.COLOURS, base.DASHES, base.PATTERNS):
        assert len(set(marks.values())) == 3


def test_theme_has_the_same_colours():
    theme = tomllib.loads((paths.ROOT / ".streamlit/config.toml").read_text())["theme"]
    assert theme["chartCategoricalColors"] == list(base.COLOURS.values())


def _contrast(first: str, second: str) -> float:
    """Return the contrast ratio of WCAG 2.1."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_colours_contrast_with_the_page(mode):
    theme = tomllib.loads((paths.ROOT / ".streamlit/config.toml").read_text())["theme"]
    for colour in [*base.COLOURS.values(), *DIGIT_COLOURS]:
        assert _contrast(colour, theme[mode]["backgroundColor"]) >= 3  # WCAG 1.4.11, graphical objects
    assert _contrast("#FFFFFF", theme[mode]["primaryColor"]) >= 4.5


#: Full loss of one kind of cone, on linear RGB: Machado, Oliveira & Fernandes 2009, table 1 (severity 1.0).
COLOUR_BLIND = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def _lab(colour: str, seen_through: list[list[float]]) -> np.ndarray:
    """Return the CIELAB colour (D65) of a screen colour as somebody with this loss sees it."""
    coded = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.array(seen_through) @ linear, 0, 1)
    xyz = (
        np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
        @ linear
        / [0.9505, 1.0, 1.089]
    )
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("loss", COLOUR_BLIND)
def test_colours_differ_for_the_colour_blind(loss):
    """A just noticeable difference is about 2.3, and neighbouring lines need some ten times that."""
    distance = {
        (a, b): np.linalg.norm(
            _lab(base.COLOURS[a], COLOUR_BLIND[loss]) - _lab(base.COLOURS[b], COLOUR_BLIND[loss])
        )
        for a, b in itertools.combinations([*base.COLOURS, "another"], 2)
    }
    assert all(d >= (15 if "another" in pair else 25) for pair, d in distance.items()), distance
    # The measure works: red and green of equal lightness look the same to most colour-blind people.
    red, green = (_lab(colour, COLOUR_BLIND["deuteranopia"]) for colour in ("#C85A3C", "#7E8B3A"))
    normal = np.linalg.norm(_lab("#C85A3C", np.eye(3).tolist()) - _lab("#7E8B3A", np.eye(3).tolist()))
    assert np.linalg.norm(red - green) < 25 < normal


@pytest.mark.parametrize("low", [1e-3, 0.013, 0.2, 1.0, 3.1, 47.0, 900.0])
@pytest.mark.parametrize("ratio", [1.6, 3.0, 20.0, 1e3])
def test_logarithmic_axis_always_has_ticks(low, ratio):
    axis = base.log_ticks([low, None, 0.0, low * ratio])
    within = [tick for tick in axis["tickvals"] if low <= tick <= low * ratio]
    assert 1 <= len(within) <= 9
    assert [float(text) for text in axis["ticktext"]] == pytest.approx(axis["tickvals"])
    assert base.log_ticks([None, 0.0]) == {}
