"""``kd export``, ``predict`` and ``import``: the networks of stored runs, used elsewhere and brought in."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from kd.cli import files
from kd.cli.output import load_mnist, not_empty, say
from kd.cli.stored import add_run, command
from kd.config.imported import ImportConfig
from kd.device import training_device
from kd.drawing import familiarity, preprocess
from kd.errors import UserError
from kd.evaluation import comparison, overview, pictures
from kd.export import formats, importing
from kd.store import finding, runs
from kd.teachers import catalogue


def add(commands: Any) -> None:
    """Add the commands."""
    exporting = command(commands, "export", export, "write a run's network as a file to deploy")
    add_run(exporting)
    exporting.add_argument(
        "--format",
        choices=formats.FORMATS,
        required=True,
        help="; ".join(formats.FORMATS.values()),
    )
    _add_network(exporting)
    files.add_output(exporting, "<architecture>-<format>.zip")
    predicting = command(commands, "predict", predict, "say which digit each picture shows, as the app does")
    add_run(predicting)
    predicting.add_argument("pictures", metavar="PICTURE", nargs="+", type=not_empty, help="an image file")
    _add_network(predicting)
    bringing = command(commands, "import", bring, "store a network that was trained elsewhere as a run")
    bringing.add_argument(
        "file", metavar="FILE", type=not_empty, help="a safetensors file, or the zip of an export"
    )
    role = ImportConfig.setting("role")
    bringing.add_argument(
        "--role", choices=role["choices"], default="student", help=f"{role['help']} (default: student)"
    )
    bringing.add_argument("--name", type=not_empty, help="the run's name (default: the name of the file)")


def _add_network(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--network",
        type=not_empty,
        metavar="NAME",
        help='which of the run\'s networks: "student", "control" or "teacher" (default: its first)',
    )


def _network(run: runs.Run, name: str | None) -> str:
    """Return which network of a run is meant."""
    if not run.models:
        raise UserError(f"{run.name} stored no networks; choose a run that trained a student or a teacher.")
    if name is not None and name not in run.models:
        raise UserError(f"{run.name} has no network {name[:40]!r}; choose one of {', '.join(run.models)}.")
    return name or run.models[0]


def export(given: argparse.Namespace) -> int:
    """Export a network: the whole zip or, if the file is named so, the network alone."""
    run = finding.find(given.stored)
    which = _network(run, given.network)
    path = files.target(given, f"{run.architecture}-{given.format}.zip")
    if path.suffix not in (".zip", f".{given.format}"):
        raise UserError(
            f"The name {path.name} must end in .zip, for all that belongs to the export, or in "
            f".{given.format}, for the network alone."
        )
    model, familiar = run.model(which), None
    mnist = load_mnist()
    if given.format == "onnx" and path.suffix == ".zip":
        familiar = familiarity.Familiar(catalogue.first(_teacher(run)).model, mnist.validation)
    exported = formats.export(model, run.architecture, given.format, mnist.test, familiar)
    alone = path.suffix != ".zip"
    content = formats.part(exported, f"model.{given.format}") if alone else exported.content
    files.write(path, content, given.force)
    result = {
        "run": run.id,
        "network": which,
        "architecture": run.architecture,
        "format": given.format,
        "file": str(path),
        "bytes": len(content),
        "difference": exported.difference,
        "images": exported.images,
    }
    told = (
        f"{path}: {which} of {run.name}, {len(content) / 1e3:,.0f} kB. Reloaded and compared on "
        f"{exported.images:,} test images: no logit differs by more than {exported.difference:.1g}."
    )
    print(json.dumps(result) if given.json else told)
    return 0


def _teacher(run: runs.Run) -> catalogue.CachedTeacher | catalogue.MeanTeacher:
    """Return the teacher of a run; if it was deleted, say so and return a shipped one."""
    teacher, warning = catalogue.load_or_shipped(comparison.teacher_of(run))
    if warning:
        say(f"warning: {warning}")
    return teacher


def predict(given: argparse.Namespace) -> int:
    """Classify pictures; return 1 if there is a warning about one, or it could not be read."""
    run = finding.find(given.stored)
    which = _network(run, given.network)
    models = {name: run.model(name) for name in run.models}
    contents = [(name, _read(name)) for name in given.pictures]
    teacher = _teacher(run)
    familiar = familiarity.Familiar(catalogue.first(teacher).model, load_mnist().validation)
    rows = []
    for name, content in contents:
        found = (
            pictures.Answer(problem=content)
            if isinstance(content, str)
            else pictures.answer(content, models, teacher.model, familiar)
        )
        row = _row(name, found, which)
        rows.append(row)
        if not given.json and not found.problem:
            print(f"{name}: {row['digit']} ({row['probability']:.1%})", flush=True)
        for warning in filter(None, (found.problem, *found.warnings)):
            say(f"{name}: {warning}")
    if given.json:
        print(json.dumps({"run": run.id, "network": which, "pictures": rows}))
    return 1 if any(row["problem"] or row["warnings"] for row in rows) else 0


def _read(name: str) -> bytes | str:
    """Return the content of a picture's file, or a sentence on why there is none."""
    try:
        with open(name, "rb") as file:
            return file.read(preprocess.MAX_BYTES + 1)
    except OSError as error:
        return f"it cannot be opened ({error.strerror})."


def _row(name: str, found: pictures.Answer, which: str) -> dict[str, Any]:
    """Return the answers to one picture, as a JSON-ready dict."""
    shares = {role: logits.double().softmax(0).tolist() for role, logits in found.logits.items()}
    own = shares.get(which)
    return {
        "file": name,
        "digit": None if own is None else own.index(max(own)),
        "probability": None if own is None else max(own),
        "probabilities": shares,
        "warnings": list(found.warnings),
        "problem": found.problem,
    }


def bring(given: argparse.Namespace) -> int:
    """Import a network."""
    path = Path(given.file)
    try:
        with path.open("rb") as file:
            content = file.read(importing.MAX_BYTES + 2**20)
    except OSError as error:
        raise UserError(f"{path} cannot be opened ({error.strerror}).") from None
    importing.read(content)
    name = runs.clean_name(given.name or importing.name_of(path.name))
    runs.check_writable()
    mnist = load_mnist()
    teacher = catalogue.load(ImportConfig.teacher, training_device())
    run = importing.add(content, given.role, name, mnist, teacher)
    if run.message:
        say(f"warning: {run.message}")
    accuracy = run.measures["models"][given.role]["test_accuracy"]
    told = f"run {run.id}: {run.name} was imported: {run.architecture}, test accuracy {accuracy:.2%}."
    print(json.dumps({"run": run.id} | overview.summary(run)) if given.json else told)
    return 0
