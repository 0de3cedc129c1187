"""Stored runs against each other: what each network costs, how well it does, and which are worth their time."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import json
import math
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from kd.data.digits import Mnist
from kd.device import training_device
from kd.errors import UserError
from kd.export import formats
from kd.metrics import classification, size
from kd.metrics.latency import ONNX, PYTORCH, ROUNDS, compare
from kd.models import inference
from kd.store import runs, safe_files
from kd.teachers.averaged import MeanTeacher
from kd.teachers.cached import CachedTeacher

FILE = "measured.json"  # in a run's folder
FORMAT = 2
#: What the article that this began with reports of a student without convolutions.
ARTICLE = "35% less time for 1 to 2 points"
#: Points of accuracy that a quicker network may cost.
PRICES = (1.0, 0.5, 0.15)


def measured(
    run: runs.Run,
    mnist: Mnist,
    teacher: CachedTeacher | MeanTeacher,
    rounds: int | None = None,
    seconds: float = 0.01,
    disturbed: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Measures a run's networks and its teacher, on this machine and the test set, and keeps the outcome with the run.

    Args:
        teacher: the one that the run learned from; of a teacher's own run any, to compare with.
        rounds, seconds: of each latency, see kd.metrics.latency; speed.ROUNDS where left out.
        disturbed: asked every second or so and once all is measured; where it says yes, nothing is kept.

    Raises:
        UserError: a file of the run is missing or damaged, the measuring was disturbed, or the outcome cannot be stored.
    """
    device = training_device()
    networks: dict[str, nn.Module] = {name: run.model(name).to(device) for name in run.models}
    architectures = dict.fromkeys(networks, run.architecture)
    if "teacher" not in networks:
        networks["teacher"], architectures["teacher"] = teacher.model, teacher.architecture
    test = mnist.to(device).test
    answers = {
        name: inference.logits_in_chunks(networks[name], test.inputs(), 512).cpu() for name in run.models
    }
    if "teacher" not in answers:
        answers["teacher"] = teacher.logits(test).cpu()  # which it has in its cache

    def check() -> None:
        if disturbed():
            raise UserError(
                "Something began to train while this was measured, so that its times could not be trusted and were not kept. Measure again when it has ended."
            )

    latencies = compare(
        networks, rounds=rounds or ROUNDS, seconds=seconds, exported=_exported(networks), between=check
    )
    check()
    labels = test.labels.cpu()
    found = {
        "format": FORMAT,
        "when": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "machine": machine(),
        "source": mnist.source,
        "test_images": len(test),
        "models": {
            name: {
                "architecture": architectures[name],
                **dataclasses.asdict(size.network_size(architectures[name])),
                "file_bytes": _file_bytes(run, name),
                "latency": latencies[name],
                **classification.quality(said, labels, answers["teacher"]),
            }
            for name, said in answers.items()
        },
    }
    _keep(run, found)
    return found


def teacher_of(run: runs.Run) -> str:
    """The name of the teacher to measure a run against: of a teacher's own run, the shipped one."""
    return "cnn" if run.kind == "teacher" else run.config.teacher


def _exported(networks: Mapping[str, nn.Module]) -> dict[str, Callable[[int], formats.Run]]:
    """What runs the ONNX file of each network, but of a control, whose file is like the student's."""
    return {
        name: functools.partial(formats.run_onnx, formats.to_onnx(model))
        for name, model in networks.items()
        if name != "control" or "student" not in networks
    }


def latency(
    model: Mapping[str, Any], batch: int, threads: int, runtime: str = PYTORCH
) -> dict[str, Any] | None:
    """The row of a measured network's latencies for this many images and threads; None where it was not measured so."""
    return next(
        (
            row
            for row in model["latency"]
            if (row["batch"], row["threads"], row["runtime"]) == (batch, threads, runtime)
        ),
        None,
    )


def machine() -> str:
    return f"{os.cpu_count()} cores, {platform.machine()}, {training_device()}, torch {torch.__version__}"


def _file_bytes(run: runs.Run, name: str) -> int | None:
    """Of the network's file; None for a teacher that is not the run's own."""
    path = run.folder / f"{name}.safetensors"
    return path.stat().st_size if path.exists() else None


def _keep(run: runs.Run, found: Mapping[str, Any]) -> None:
    try:
        safe_files.replace(run.folder / FILE, json.dumps(found))
    except OSError as error:
        raise UserError(runs.cannot_save(error, then=" and measure again")) from None


def stored(run: runs.Run) -> dict[str, Any] | None:
    """What was measured of a run; None where nothing was, or by another version of the program."""
    try:
        found = safe_files.read_json(run.folder / FILE)
        if found["format"] != FORMAT or not all(model["latency"] for model in found["models"].values()):
            return None
        return found
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


# -- which are worth their time ------------------------------------------------------------


@dataclass(frozen=True)
class Point:
    """A network in the picture of accuracy against time."""

    run: str  # the run's id
    name: str  # of the run
    role: str  # "student", "control" or "teacher"
    accuracy: float
    seconds: float  # median
    iqr: float
    bytes: int


def points(found: Mapping[str, tuple[str, Mapping[str, Any]]], batch: int, threads: int) -> list[Point]:
    """All networks of the measured runs (id -> name and measures). A teacher of several runs is one point, as it was measured last."""
    chosen, teachers = [], {}
    for id, (name, measures) in found.items():
        for role, model in measures["models"].items():
            row = latency(model, batch, threads)
            if row is None:
                continue
            point = Point(id, name, role, model["test_accuracy"], row["median"], row["iqr"], model["bytes"])
            if role == "teacher":
                key = (model["architecture"], model["test_errors"])
                if key not in teachers or measures["when"] > teachers[key][0]:
                    teachers[key] = (measures["when"], dataclasses.replace(point, name=model["architecture"]))
            else:
                chosen.append(point)
    return [point for _, point in teachers.values()] + chosen


def frontier(among: Sequence[Point]) -> list[Point]:
    """Those that none beats: no other is as quick and more accurate, or as accurate and quicker. From quick to slow."""
    best: list[Point] = []
    for point in sorted(among, key=lambda point: (point.seconds, -point.accuracy)):
        if not best or point.accuracy > best[-1].accuracy:
            best.append(point)
    return best


def verdict(measures: Mapping[str, Any], batch: int, threads: int) -> dict[str, float] | None:
    """A student against its teacher: ``faster``, teacher's time over its own; ``less_time``, the share that it
    saves; ``points`` of accuracy that it costs; ``smaller``, teacher's bytes over its own. None where there is no student."""
    found = measures["models"]
    if "student" not in found or "teacher" not in found:
        return None
    student, teacher = (latency(found[name], batch, threads) for name in ("student", "teacher"))
    if student is None or teacher is None:
        return None
    return {
        "faster": teacher["median"] / student["median"],
        "less_time": 1 - student["median"] / teacher["median"],
        "points": 100 * (found["teacher"]["test_accuracy"] - found["student"]["test_accuracy"]),
        "smaller": found["teacher"]["bytes"] / found["student"]["bytes"],
    }


def bargains(
    found: Mapping[str, Mapping[str, Any]], batch: int, threads: int
) -> dict[float, tuple[str, dict[str, float]]]:
    """For each of PRICES that some student keeps to, the quickest that does: price -> id and verdict."""
    verdicts = [(id, worth) for id, measures in found.items() if (worth := verdict(measures, batch, threads))]
    cheap = {price: [pair for pair in verdicts if pair[1]["points"] <= price + 1e-9] for price in PRICES}
    return {price: max(pairs, key=lambda pair: pair[1]["faster"]) for price, pairs in cheap.items() if pairs}


def differences(*configs: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """The settings in which configs, as dicts, differ, with the value of each; None where one has no such setting."""
    settings = {
        key: tuple(config.get(key) for config in configs)
        for key in {key: None for config in configs for key in config}
    }
    return {key: values for key, values in settings.items() if any(value != values[0] for value in values)}


def text(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The measured runs (id -> measures) as a table: each student against its teacher. Runs without a student are left out."""
    lines = [
        f"{'run':34}{'student':16}{'accuracy':>9}{'control':>9}{'teacher':>9}{'points':>8}{'images':>8}{'threads':>8}{'ms':>9}{'teacher':>9}{'faster':>8}{'ONNX ms':>9}"
    ]
    for id, measures in found.items():
        models = measures["models"]
        for row in models.get("student", {}).get("latency", []):
            at = row["batch"], row["threads"]
            worth = verdict(measures, *at)
            if row["runtime"] != PYTORCH or worth is None:
                continue
            exported = latency(models["student"], *at, ONNX)
            shares = "".join(
                f"{models[who]['test_accuracy']:>9.2%}" if who in models else f"{'':9}"
                for who in ("student", "control", "teacher")
            )
            lines.append(
                f"{id:34}{models['student']['architecture']:16}{shares}{worth['points']:>8.2f}{at[0]:>8}{at[1]:>8}{1e3 * row['median']:>9.3f}"
                f"{1e3 * latency(models['teacher'], *at)['median']:>9.3f}{worth['faster']:>7.1f}x{1e3 * exported['median'] if exported else math.nan:>9.3f}"
            )
    for batch, threads in sorted(
        {
            (row["batch"], row["threads"])
            for measures in found.values()
            for model in measures["models"].values()
            for row in model["latency"]
        }
    ):
        for price, (id, worth) in bargains(found, batch, threads).items():
            name = found[id]["models"]["student"]["architecture"]
            lines.append(
                f"{batch} image{'s' if batch > 1 else ''}, {threads} thread{'s' if threads > 1 else ''}, at most {price:g} point{'s' if price > 1 else ''}: {name} ({worth['faster']:.1f}x for {worth['points']:.2f})"
            )
    return "\n".join(
        [
            *lines,
            "Each in its quickest form, medians of alternating rounds; accuracies on the test set, on which nothing was chosen.",
        ]
    )
