"""Ship a trained teacher with the program."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kd.config.base import Settings
from kd.config.teacher import TeacherConfig
from kd.data.augmentation import BY_LABEL
from kd.data.digits import Mnist
from kd.errors import UserError
from kd.store import runs, safe_files
from kd.teachers import catalogue
from kd.teachers.cached import CachedTeacher

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")
#: The columns of a shipped teacher's training curve.
CURVE = ("epoch", "loss teacher hard", "validation teacher", "whole_validation")


def check(name: str) -> None:
    """Check that a teacher can be shipped under this name.

    Raises:
        UserError: the name could be that of another file, or the folder cannot be written to.
    """
    if not _NAME.fullmatch(name):
        raise UserError(
            f"{name[:40]!r} cannot name a teacher: use up to 40 letters, digits, - and _, "
            "beginning with a letter."
        )
    for path in _files(name):
        if path.is_symlink():
            raise UserError(f"{path} is a symbolic link, which is not written through. Delete it first.")
    try:
        safe_files.try_writing(catalogue.WEIGHTS)
    except OSError as error:
        raise UserError(
            f"No teacher can be shipped: {catalogue.WEIGHTS} cannot be written to ({error.strerror})."
        ) from None


def check_data(mnist: Mnist) -> None:
    """Check that a teacher trained on these data may be shipped.

    Raises:
        UserError: they are not all of MNIST.
    """
    if mnist.source != "full":
        raise UserError(
            "Only a teacher trained on all of MNIST can be shipped; set KD_DATA_DIR to a folder that has it."
        )


def check_recipe(name: str, config: Settings, data: str | None) -> None:
    """Check that a training repeats that of a shipped teacher.

    Args:
        data: digest of the data of the training.

    Raises:
        UserError: the settings or the data differ, or there is no such teacher.
    """
    check(name)
    about = catalogue.describe(name)
    if TeacherConfig.from_dict(about["config"]) != config or data != about["data_sha256"]:
        raise UserError(
            f"This training has different settings or data than the shipped teacher {name}. "
            f"Train it with: {about['command']}"
        )


def ship(name: str, run: runs.Run, mnist: Mnist) -> None:
    """Ship the teacher of ``run`` as ``name``: write its weights, logits, description and training curve.

    Raises:
        UserError: the teacher was not trained on all of MNIST, or cannot be written under this name.
    """
    check(name)
    check_data(mnist)
    if run.measures.get("data") != mnist.digest:
        raise UserError("This teacher was trained on other data than those it would be shipped with.")
    target = catalogue.WEIGHTS / f"{name}.safetensors"
    target.write_bytes((run.folder / "teacher.safetensors").read_bytes())
    shipped = CachedTeacher(name, run.architecture, run.model("teacher"))
    validation_errors = _validation_errors(shipped, mnist)
    shipped.save_logits(catalogue.logits_path(name), mnist)
    files = {"": catalogue.logits_path(name)}
    if run.config.to_dict().get("augmentation") in BY_LABEL:
        files["handwriting"] = catalogue.logits_path(name, "handwriting")
        shipped.save_views(files["handwriting"], (mnist.train, mnist.validation), "handwriting")
    arguments = " ".join(f"--{key.replace('_', '-')} {value}" for key, value in run.config.to_dict().items())
    description = {
        "architecture": run.architecture,
        "command": f"python -m kd teacher {arguments} --ship {name}",
        "config": run.config.to_dict(),
        "seconds": run.measures["seconds"],
        "versions": run.measures["versions"],
        "data_sha256": run.measures["data"],
        "weights_sha256": shipped.digest,
        **{
            catalogue.digest_name(augmentation): catalogue.file_digest(path)
            for augmentation, path in files.items()
        },
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
    check_recipe(name, run.config, run.measures.get("data"))
    about = catalogue.describe(name)
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


def _files(name: str) -> list[Path]:
    logits = [catalogue.logits_path(name), catalogue.logits_path(name, "handwriting")]
    return [catalogue.WEIGHTS / f"{name}.safetensors", catalogue.WEIGHTS / f"{name}.json", *logits]


def _validation_errors(teacher: CachedTeacher, mnist: Mnist) -> int:
    return round((1 - teacher.accuracy(mnist.validation)) * len(mnist.validation))


def _curve(run: runs.Run) -> list[dict[str, float]]:
    return [{key: round(row[key], 6) for key in CURVE} for row in run.metrics() if row["whole_validation"]]


def _describe(name: str, about: Mapping[str, Any]) -> None:
    (catalogue.WEIGHTS / f"{name}.json").write_text(json.dumps(about, indent=1) + "\n")
