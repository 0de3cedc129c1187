"""Find and load teachers by name."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

import torch

from kd import paths
from kd.config.base import MAX_TEACHERS
from kd.data.augmentation import VIEWS
from kd.data.task import MNIST
from kd.errors import UserError
from kd.models import registry
from kd.store import runs
from kd.teachers.averaged import MeanTeacher
from kd.teachers.cached import CachedTeacher

WEIGHTS = paths.WEIGHTS


def shipped() -> list[str]:
    """Return the names of the shipped teachers, the default one first."""
    names = (path.stem for path in WEIGHTS.glob("*.safetensors") if "." not in path.stem)
    return sorted(names, key=lambda name: (name != MNIST.teacher, name))


def describe(name: str) -> dict:
    """Return the description of a shipped teacher: how it was trained, and its errors.

    Raises:
        UserError: the description is missing or damaged.
    """
    try:
        about = json.loads((WEIGHTS / f"{name}.json").read_text())
        registry.architecture(about["architecture"])
        return about
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"The description of the teacher {name} is missing or damaged; "
            f"restore kd/teachers/weights/{name}.json."
        ) from None


def load(name: str, device: torch.device | str = "cpu") -> CachedTeacher | MeanTeacher:
    """Return a shipped teacher by name, a trained one by its run's id, or the mean of several joined by +.

    Raises:
        UserError: there is no such teacher, or a file is damaged.
    """
    if name.count("+") >= MAX_TEACHERS:  # each needs some MB
        raise UserError(f"There can be up to {MAX_TEACHERS} teachers joined by +.")
    if "+" in name:
        return MeanTeacher(name, [_load_one(part, device) for part in name.split("+")])
    return _load_one(name, device)


def load_or_shipped(name: str, device: torch.device | str = "cpu") -> tuple[CachedTeacher | MeanTeacher, str]:
    """Return the teacher called ``name``, or a shipped one and a sentence that says so.

    Raises:
        UserError: no teacher can be loaded.
    """
    try:
        return load(name, device), ""
    except UserError as error:
        for other in shipped():
            with contextlib.suppress(UserError):
                return load(other, device), f"{error} The shipped teacher {other} is used instead."
        raise


def first(teacher: CachedTeacher | MeanTeacher) -> CachedTeacher:
    """Return the first of several teachers, or the only one."""
    return teacher.parts[0] if isinstance(teacher, MeanTeacher) else teacher


def _load_one(name: str, device: torch.device | str) -> CachedTeacher:
    """Load a single teacher; see load()."""
    if name in shipped():
        about = describe(name)
        model = registry.load(WEIGHTS / f"{name}.safetensors", about["architecture"])
        return CachedTeacher(name, about["architecture"], model.to(device), _shipped_logits(name, about))
    if runs.is_id(name):
        run = runs.load(name)
        if "teacher" not in run.models:
            raise UserError(f"{run.name} is not a teacher; choose a run that trained one.")
        return CachedTeacher(name, run.architecture, run.model("teacher").to(device))
    raise UserError(
        f"There is no teacher called {name[:40]!r}; choose one of {', '.join(shipped())}, "
        "or the id of a teacher run."
    )


def _shipped_logits(name: str, about: dict) -> dict[str, Path]:
    """Return the files of a shipped teacher's logits, by augmentation; without damaged ones."""
    return {
        augmentation: logits_path(name, augmentation)
        for augmentation in ("", *VIEWS)
        if (expected := about.get(digest_name(augmentation)))
        and file_digest(logits_path(name, augmentation)) == expected
    }


def logits_path(name: str, augmentation: str = "") -> Path:
    """Return the file of a shipped teacher's logits of images with this augmentation."""
    return WEIGHTS / f"{name}{augmentation and '.'}{augmentation}.logits.safetensors"


def digest_name(augmentation: str = "") -> str:
    """Return the entry of a teacher's description that holds the checksum of such a file."""
    return f"{augmentation}{augmentation and '_'}logits_sha256"


def file_digest(path: Path) -> str | None:
    """Return the SHA-256 of a file, in hexadecimal; None if it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None
