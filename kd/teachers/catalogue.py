"""Find and load teachers by name."""

from __future__ import annotations

import json

import torch

from kd import paths
from kd.config.base import MAX_TEACHERS
from kd.errors import UserError
from kd.models import registry
from kd.store import runs
from kd.teachers.averaged import MeanTeacher
from kd.teachers.cached import CachedTeacher

WEIGHTS = paths.WEIGHTS


def shipped() -> list[str]:
    """The names of the teachers in the repository."""
    return sorted(
        path.name.removesuffix(".safetensors")
        for path in WEIGHTS.glob("*.safetensors")
        if "." not in path.stem
    )


def describe(name: str) -> dict:
    """The json beside a shipped teacher: how it was made and what it scores."""
    try:
        about = json.loads((WEIGHTS / f"{name}.json").read_text())
        registry.architecture(about["architecture"])
        return about
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"The description of the teacher {name} is missing or damaged; restore kd/teachers/weights/{name}.json."
        ) from None


def load(name: str, device: torch.device | str = "cpu") -> CachedTeacher | MeanTeacher:
    """A shipped teacher by name or a trained one by its run's id, ready to answer; several, joined by +, as one.

    Raises:
        UserError: no such teacher, or a damaged file.
    """
    if name.count("+") >= MAX_TEACHERS:  # each takes some MB
        raise UserError(f"There can be up to {MAX_TEACHERS} teachers joined by +.")
    if "+" in name:
        return MeanTeacher(name, [load(part, device) for part in name.split("+")])
    if name in shipped():
        architecture = describe(name)["architecture"]
        model = registry.load(WEIGHTS / f"{name}.safetensors", architecture)
        return CachedTeacher(name, architecture, model.to(device), WEIGHTS / f"{name}.logits.safetensors")
    if runs.is_id(name):
        run = runs.load(name)
        if "teacher" not in run.models:
            raise UserError(f"{run.name} is not a teacher; choose a run that trained one.")
        return CachedTeacher(name, run.architecture, run.model("teacher").to(device))
    raise UserError(
        f"There is no teacher called {name[:40]!r}; choose one of {', '.join(shipped())}, or the id of a teacher run."
    )
