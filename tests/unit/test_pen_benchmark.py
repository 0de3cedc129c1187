"""Test how drawings given as strokes are read, drawn and scored."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from benchmarks import drawings, pen
from benchmarks.drawings import Condition, Drawing
from kd import paths
from kd.data.digits import Mnist
from kd.errors import UserError
from kd.models import registry
from tests.drawings import box, drawn
from tests.strokes import DIGITS, LETTERS

ONE = {"label": "1", "strokes": [[[0.5, 0.2], [0.5, 0.8]]]}
SEVEN = {"digit": 7, "strokes": [[[0.3, 0.2], [0.7, 0.2], [0.4, 0.8]]], "class": "plain"}
T = {"label": "T", "strokes": [[[0.2, 0.2], [0.8, 0.2]], [[0.5, 0.2], [0.5, 0.8]]]}


def written(folder: Path, content: object, name: str = "drawings.json") -> Path:
    path = folder / name
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


# -- reading ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["drawings.json", "drawings.json.gz"])
def test_digits_and_letters_are_read(tmp_path: Path, name: str):
    # A letter that looks like a digit, or has no label, is a letter all the same.
    letters = [T, T | {"label": "0"}, {"strokes": T["strokes"]}]
    found = drawings.read(written(tmp_path, {"about": "", "digits": [ONE], "letters": letters}, name))
    assert [drawing.label for drawing in found] == [1, *[drawings.LETTER] * 3]
    assert found[0].strokes == ONE["strokes"]


def test_list_with_habits_is_read(tmp_path: Path):
    found = drawings.read(written(tmp_path, [SEVEN, T, ONE]))
    assert [(drawing.label, drawing.habit) for drawing in found] == [(7, "plain"), (-1, ""), (1, "")]


@pytest.mark.parametrize(
    "content, said",
    [
        (b"no json", "not a JSON file"),
        (b"\x1f\x8b damaged", "not a JSON file"),
        (b"\xff\xfe\x00", "not a JSON file"),
        ({"about": "nothing"}, "holds no drawings"),
        ([], "lists are empty"),
        ({"digits": [ONE], "letters": 3}, '"letters" in'),
        ([ONE, "7"], "Drawing 2 in"),
        ([{"strokes": ONE["strokes"]}], "has no label"),
        ([SEVEN | {"digit": True}], "has no label"),
        ([SEVEN | {"class": 3}], "must be text"),
        ([{"label": "7"}], "no usable strokes"),
        ([ONE | {"strokes": []}], "no usable strokes"),
        ([ONE | {"strokes": [[]]}], "no usable strokes"),
        ([ONE | {"strokes": [[[0.1]]]}], "no usable strokes"),
        ([ONE | {"strokes": [[[0.1, None]]]}], "no usable strokes"),
        ([ONE | {"strokes": [[[0.1, 200]]]}], "numbers from -1 to 2"),
        (b'[{"label": "1", "strokes": [[[0.1, NaN]]]}]', "no usable strokes"),
        (b"[" * 100_000, "not a JSON file"),
    ],
)
def test_bad_file_is_refused_in_a_sentence(tmp_path: Path, content: object, said: str):
    path = written(tmp_path, content)
    with pytest.raises(UserError) as refused:
        drawings.read(path)
    assert said in str(refused.value) and str(path) in str(refused.value)


def test_missing_file_is_refused_in_a_sentence(tmp_path: Path):
    with pytest.raises(UserError, match="No such file"):
        drawings.read(tmp_path / "none.json")


# -- drawing ------------------------------------------------------------------------------------


def test_pen_and_canvas_are_those_of_the_app():
    # Read as text: the canvas' module can only be imported by the app.
    text = (paths.PACKAGE / "ui" / "drawing" / "canvas.py").read_text()
    assert f"\nSIZE = {drawings.CANVAS}\nPEN = {drawings.PEN}\n" in text


@pytest.mark.parametrize("width", [12, 20, 28])
def test_drawings_look_as_in_the_app(width: int):
    found = drawings.render(
        [Drawing(digit, strokes) for digit, strokes in DIGITS.items()], Condition(pen=width)
    )
    assert found.images.dtype == np.uint8 and found.labels.tolist() == list(DIGITS)
    for image, strokes in zip(found.images, DIGITS.values()):
        assert np.array_equal(image, drawn(strokes, width))


def test_dot_is_an_empty_image():
    found = drawings.render([Drawing(1, [[[0.5, 0.5]]]), Drawing(7, DIGITS[7])])
    assert not found.images[0].any() and found.images[1].any()


@pytest.mark.parametrize(
    "condition, expected",
    [
        (Condition(size=0.5), (0.5, 0.3)),
        (Condition(rotation=90), (0.9, 0.5)),  # clockwise: the top goes to the right
        (Condition(slant=0.5), (0.7, 0.1)),
        (Condition(size=0.5, rotation=90), (0.7, 0.5)),
    ],
)
def test_top_moves_as_the_condition_says(condition: Condition, expected: tuple[float, float]):
    assert drawings.moved([[[0.5, 0.1]]], condition)[0][0] == pytest.approx(expected)


def test_thick_pen_and_rotation_show_in_the_image():
    one = [Drawing(1, DIGITS[1])]
    thin, thick, lying = (
        box(drawings.render(one, condition).images[0])
        for condition in (Condition(pen=12), Condition(pen=28), Condition(rotation=90))
    )
    assert thin[3] < thick[3] < 12 and lying[3] == 20


# -- scoring ------------------------------------------------------------------------------------


class Answers(nn.Module):
    """Give the same logits whatever the images."""

    def __init__(self, logits: list[list[float]]):
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.logits[: len(inputs)]


class Knows:
    """Know the images of which this says so."""

    def __init__(self, known: list[bool]):
        self.known = torch.tensor(known)

    def knows(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.known[: len(inputs)]


def sure(digit: int, of: float = 9.0) -> list[float]:
    return [of * (place == digit) for place in range(10)]


def test_scores_count_what_they_name():
    names = [7, 7, 7, 7, 1, drawings.LETTER, drawings.LETTER, 0]
    images = np.zeros((8, 28, 28), np.uint8)
    images[:7, 4:24, 14] = 255  # the last one is a dot
    logits = [sure(7), sure(7), sure(2), sure(3, of=0.5), sure(1), sure(1), sure(2), sure(0)]
    known = [True, False, False, True, True, True, False, True]
    odd = np.array(["", "", "", "", "several", "", "", ""])
    network = pen.Network("stub", Answers(logits), Knows(known))
    found = pen.scores(drawings.Rendered(images, np.array(names, np.int64)), network, odd, np.ones(8, bool))
    assert found == {
        "digits": 6,
        "letters": 2,
        "accuracy": 3 / 6,
        "sure_errors": 1 / 6,
        "rejected_digits": 4 / 6,
        "rejected_letters": 1 / 2,
        "rejected_errors": 2 / 3,
        "rejected_correct": 2 / 3,
        "several": 1 / 6,
    }


def test_first_row_is_as_drawn_in_the_app():
    how = pen.conditions()
    assert how[0] == Condition() and len(set(how)) == len(how) == 9
    assert str(how[0]) == "as drawn, pen 20 px" and str(how[1]) == "pen 12 px"
    # The app's own pen is not measured twice.
    assert pen.conditions([20.0], [1.0], [0.0], []) == [Condition()]


def test_habits_have_rows_of_their_own():
    found = [Drawing(7, DIGITS[7], "plain"), Drawing(1, DIGITS[1]), Drawing(-1, LETTERS["A"])]
    network = pen.Network("stub", Answers([sure(7)] * 3), Knows([True] * 3))
    rows = pen.measure(found, [network], [Condition(), Condition(pen=12)])
    assert [(row["drawn"], row["digits"], row["accuracy"]) for row in rows] == [
        ("as drawn, pen 20 px", 2, 0.5),
        ("plain", 1, 1.0),
        ("pen 12 px", 2, 0.5),
    ]
    lines = pen.table(rows).splitlines()
    assert len(lines) == 5 and lines[3].startswith("| `stub` | plain | 1 | 100.0% | 0.0% | 0.0% |  |")


def test_command_scores_a_file(
    tmp_path: Path, mnist: Mnist, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(pen, "load_mnist", lambda: mnist)
    weights = tmp_path / "own.safetensors"
    save_file(registry.build("mlp-30", 0).state_dict(), weights)
    path = str(written(tmp_path, {"digits": [ONE, SEVEN], "letters": [T]}))
    assert pen.main([path, "--weights", str(weights), "mlp-30", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {row["network"] for row in rows} == {"own.safetensors"}
    assert [(row["digits"], row["letters"]) for row in rows] == [(2, 1), (1, 0), *[(2, 1)] * 8]


@pytest.mark.parametrize("wrong", [["--teacher", "nobody"], ["--student", "nothing"], ["--pens", "0"]])
def test_command_refuses_in_a_sentence(
    wrong: list[str],
    tmp_path: Path,
    mnist: Mnist,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setattr(pen, "load_mnist", lambda: mnist)
    assert pen.main([str(written(tmp_path, [ONE])), *wrong]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("pen: ") and "Traceback" not in err
