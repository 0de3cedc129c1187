"""A personal test set: the drawings that a visitor kept, with their labels.

<home>/drawings/<owner>/<number>-<label>.png   28x28, greyscale, as models see it
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from kd import paths, permissions
from kd.data.task import MNIST
from kd.drawing import preprocess, uploads
from kd.errors import UserError
from kd.store import quota, runs

MAX_DRAWINGS = 500
_NAME = re.compile(r"(\d{6})-(\d)\.png")


def _folder(token: str) -> Path:
    digest = runs.owner_digest(token)
    if digest is None:
        raise UserError("This browser has no token yet; reload the page.")
    return paths.home() / "drawings" / digest[:32]


def _files(token: str) -> list[tuple[Path, int]]:
    """Return the kept files and their labels, oldest first."""
    try:
        matches = [(path, _NAME.fullmatch(path.name)) for path in sorted(_folder(token).iterdir())]
    except OSError:
        return []
    return [(path, int(match[2])) for path, match in matches if match]


def keep(pixels: np.ndarray, label: int, token: str) -> int:
    """Add a drawing, (28, 28) uint8, and return how many there are now.

    Raises:
        UserError: the label is not a digit, there are too many drawings, the store is full, the disk cannot
            be written to, or only the presenter may keep drawings.
    """
    permissions.check(runs.owner_digest(token), "keep drawings")
    quota.check()
    if label not in range(MNIST.classes):
        raise UserError("Say which digit you drew, 0 to 9, and press Keep again.")
    files = _files(token)
    if len(files) >= MAX_DRAWINGS:
        raise UserError(f"You have kept {MAX_DRAWINGS} drawings, the maximum. Delete them to keep new ones.")
    number = int(files[-1][0].name[:6]) + 1 if files else 0
    path = _folder(token) / f"{number:06}-{label}.png"
    temporary = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        Image.fromarray(pixels, "L").save(temporary, "PNG")
        temporary.replace(path)
    except OSError as error:
        raise UserError(
            f"The drawing was not kept: {path.parent} cannot be written to ({error.strerror or error})."
        ) from None
    return len(files) + 1


def load(token: str) -> tuple[Tensor, Tensor]:
    """Return the readable kept drawings, (N, 28, 28) uint8, and their labels, (N,)."""
    images, labels = [], []
    for path, label in _files(token):
        try:
            if path.is_symlink() or path.stat().st_size > preprocess.MAX_BYTES:
                continue
            picture = uploads.grey(path.read_bytes(), MNIST.values)
        except (OSError, UserError):
            continue
        if picture.shape == (MNIST.height, MNIST.width):
            images.append(torch.from_numpy(picture.copy()))
            labels.append(label)
    return (
        torch.stack(images) if images else torch.zeros(0, MNIST.height, MNIST.width, dtype=torch.uint8)
    ), torch.tensor(labels, dtype=torch.long)


def forget(token: str) -> None:
    """Delete all kept drawings.

    Raises:
        UserError: the disk cannot be written to.
    """
    try:
        for path, _ in _files(token):
            path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"The drawings could not be deleted: {_folder(token)} cannot be written to "
            f"({error.strerror or error})."
        ) from None
