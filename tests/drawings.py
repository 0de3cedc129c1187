"""Turn strokes into the images and inputs that networks see, for tests that draw."""

from __future__ import annotations

import numpy as np
import torch

from kd.data.digits import normalize
from kd.drawing import preprocess
from kd.models import inference
from kd.teachers.cached import CachedTeacher
from tests.strokes import Stroke, render


def drawn(strokes: list[Stroke], width: int = 20) -> np.ndarray | None:
    """Return the image that networks see of a drawing on a canvas of 280 px; None for a dot."""
    return preprocess.prepare(preprocess.ink_from_canvas(render(strokes, 280, width)))


def inputs(pictures: list[np.ndarray]) -> torch.Tensor:
    """Return images, (28, 28) uint8 each, as a normalized batch (N, 1, 28, 28)."""
    return normalize(torch.from_numpy(np.stack(pictures)))


def answers(model: CachedTeacher, pictures: list[np.ndarray]) -> list[int]:
    """Return the teacher's class of each image."""
    return inference.logits_in_chunks(model.model, inputs(pictures)).argmax(1).tolist()


def box(picture: np.ndarray) -> tuple[int, int, int, int]:
    """Return top, left, height and width of what is not black."""
    rows, columns = np.flatnonzero(picture.any(1)), np.flatnonzero(picture.any(0))
    return rows[0], columns[0], rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
