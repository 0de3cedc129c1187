"""Ship a trained teacher with the program."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from kd.config.teacher import TeacherConfig
from kd.data.digits import Mnist
from kd.errors import UserError
from kd.store import runs
from kd.teachers import catalogue
from kd.teachers.cached import CachedTeacher

#: The columns of a shipped teacher's training curve.
CURVE = ("epoch", "loss teacher hard", "validation teacher", "whole_validation")


def ship(name: str, run: runs.Run, mnist: Mnist) -> None:
    """Ship the teacher of ``run`` as ``name``: write its weights, logits, description and training curve.

    Raises:
        UserError: the teacher was not trained on all of MNIST.
    """
    if mnist.source != "full" or run.measures.get("data") != mnist.digest:
        raise UserError(
            "Only a teacher trained on all of MNIST can be shipped; set KD_DATA_DIR to a folder that has it."
        )
    target = catalogue.WEIGHTS / f"{name}.safetensors"
    target.write_bytes((run.folder / "teacher.safetensors").read_bytes())
    shipped = CachedTeacher(name, run.architecture, run.model("teacher"))
    validation_errors = _validation_errors(shipped, mnist)
    logits = catalogue.WEIGHTS / f"{name}.logits.safetensors"
    shipped.save_logits(logits, mnist)
    arguments = " ".join(f"--{key.replace('_', '-')} {value}" for key, value in run.config.to_dict().items())
    description = {
        "architecture": run.architecture,
        "command": f"python -m kd teacher {arguments} --ship {name}",
        "config": run.config.to_dict(),
        "seconds": run.measures["seconds"],
        "versions": run.measures["versions"],
        "data_sha256": run.measures["data"],
        "weights_sha256": shipped.digest,
        "logits_sha256": hashlib.sha256(logits.read_bytes()).hexdigest(),
        "train_images": len(mnist.train),
        "validation_errors": validation_errors,
        "validation_images": len(mnist.validation),
        "test_errors": run.measures["models"]["teacher"]["test_errors"],
        "test_images": len(mnist.test),
        "curve": _curve(run),
    }
    _describe(name, description)


def tell_again(name: str, run: runs.Run, mnist: Mnist) -> None:
    """Replace the training curve of a shipped teacher with that of ``run``, a repeat with the same settings.

    The shipped weights stay, and with them everything measured on them.

    Raises:
        UserError: the settings or the data differ, or there is no such teacher.
    """
    about = catalogue.describe(name)
    if (
        TeacherConfig.from_dict(about["config"]) != run.config
        or run.measures.get("data") != about["data_sha256"]
    ):
        raise UserError(
            f"This training has different settings or data than the shipped teacher {name}. "
            f"Train it with: {about['command']}"
        )
    again = CachedTeacher(name, run.architecture, run.model("teacher"))
    _describe(
        name,
        about
        | {
            "curve": _curve(run),
            "curve_weights_sha256": again.digest,
            "curve_validation_errors": _validation_errors(again, mnist),
        },
    )


def _validation_errors(teacher: CachedTeacher, mnist: Mnist) -> int:
    return round((1 - teacher.accuracy(mnist.validation)) * len(mnist.validation))


def _curve(run: runs.Run) -> list[dict[str, float]]:
    return [{key: round(row[key], 6) for key in CURVE} for row in run.metrics() if row["whole_validation"]]


def _describe(name: str, about: Mapping[str, Any]) -> None:
    (catalogue.WEIGHTS / f"{name}.json").write_text(json.dumps(about, indent=1) + "\n")
