"""Saved drawings are private to one user and load unchanged."""

import numpy as np
import pytest
import torch

from kd.errors import UserError
from kd.store import drawings, runs

MINE, THEIRS = "a" * 32, "b" * 32


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("KD_HOME", str(tmp_path))
    return tmp_path


def picture(value: int) -> np.ndarray:
    return np.full((28, 28), value, np.uint8)


def test_drawings_load_in_order_with_their_labels():
    for label in (3, 1, 4):
        drawings.keep(picture(label * 20), label, MINE)
    images, labels = drawings.load(MINE)
    assert labels.tolist() == [3, 1, 4]
    assert torch.equal(images, torch.tensor([60, 20, 80], dtype=torch.uint8)[:, None, None].expand(3, 28, 28))


def test_drawings_are_private_and_the_token_is_not_on_disk(home):
    drawings.keep(picture(9), 9, MINE)
    assert len(drawings.load(THEIRS)[1]) == 0
    assert not [path for path in home.rglob("*") if MINE in path.name]


def test_forget_deletes_only_ones_own_drawings():
    drawings.keep(picture(1), 1, MINE)
    drawings.keep(picture(2), 2, THEIRS)
    drawings.forget(MINE)
    assert len(drawings.load(MINE)[1]) == 0 and len(drawings.load(THEIRS)[1]) == 1


def test_damaged_drawing_is_left_out(home):
    drawings.keep(picture(1), 1, MINE)
    drawings.keep(picture(2), 2, MINE)
    next(home.rglob("*-1.png")).write_bytes(b"not a picture")
    assert drawings.load(MINE)[1].tolist() == [2]


@pytest.mark.parametrize("label", [None, -1, 10, "x"])
def test_label_that_is_not_a_digit_is_refused(label):
    with pytest.raises(UserError, match="which digit"):
        drawings.keep(picture(1), label, MINE)


def test_number_of_drawings_is_limited(monkeypatch):
    monkeypatch.setattr(drawings, "MAX_DRAWINGS", 2)
    drawings.keep(picture(1), 1, MINE)
    drawings.keep(picture(1), 1, MINE)
    with pytest.raises(UserError, match="the maximum"):
        drawings.keep(picture(1), 1, MINE)


def test_full_disk_is_reported_in_plain_words(monkeypatch, home):
    (home / "drawings").write_text("a file where the folder should be")
    with pytest.raises(UserError, match="was not kept"):
        drawings.keep(picture(1), 1, MINE)


def test_drawings_are_not_listed_as_runs():
    drawings.keep(picture(1), 1, MINE)
    assert runs.list_runs() == ([], [])
