"""Compare stored runs: latency, size and accuracy of each network, and the Pareto front among them."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import json
import math
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from kd.data.digits import Mnist
from kd.data.task import MNIST
from kd.device import cores, training_device
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
#: What the article that inspired this program reports for a student without convolutions.
ARTICLE = "35% less time for 1 to 2 points"
#: Accuracy that a faster network may cost, in percentage points.
PRICES = (1.0, 0.5, 0.15)


def measured(
    run: runs.Run,
    mnist: Mnist,
    teacher: CachedTeacher | MeanTeacher,
    rounds: int | None = None,
    seconds: float = 0.01,
    disturbed: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Measure a run's networks and its teacher on this machine's test set, and store the result with the run.

    Args:
        run: a stored run.
        mnist: the data; only its test set is used.
        teacher: the teacher that the run learned from; for a teacher's own run, any teacher to compare with.
        rounds: rounds per latency (see kd.metrics.latency); latency.ROUNDS if None.
        seconds: minimum duration of one latency measurement, in seconds.
        disturbed: called about once a second and at the end; if it returns True, nothing is stored.

    Returns:
        The measures by network, with accuracies as fractions, sizes in bytes and latencies in seconds.

    Raises:
        UserError: a file of the run is missing or damaged, the measurement was disturbed, or the result
            cannot be stored.
    """
    device = training_device()
    networks: dict[str, nn.Module] = {name: run.model(name).to(device) for name in run.models}
    architectures = dict.fromkeys(networks, run.architecture)
    if "teacher" not in networks:
        networks["teacher"], architectures["teacher"] = teacher.model, teacher.architecture
    test = mnist.to(device).test
    logits = {
        name: inference.logits_in_chunks(networks[name], test.inputs(), 512).cpu() for name in run.models
    }
    if "teacher" not in logits:
        logits["teacher"] = teacher.logits(test).cpu()  # from its cache

    def check() -> None:
        if disturbed():
            raise UserError(
                "Training began during this measurement, so its times are unreliable and were not kept. "
                "Measure again when the training has ended."
            )

    latencies = compare(
        networks, rounds=rounds or ROUNDS, seconds=seconds, exported=_exported(networks), between=check
    )
    check()
    labels = test.labels.cpu()
    measures = {
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
                **classification.quality(outputs, labels, logits["teacher"]),
            }
            for name, outputs in logits.items()
        },
    }
    _store(run, measures)
    return measures


def teacher_of(run: runs.Run) -> str:
    """Return the name of the teacher to measure a run against; for a teacher's own run, the shipped one."""
    config: Any = run.config
    return config.teacher if run.about.has_teacher else MNIST.teacher


def _exported(networks: Mapping[str, nn.Module]) -> dict[str, Callable[[int], formats.LogitsFunction]]:
    """Return a function per network that runs its ONNX file.

    A student's control has none: its file equals the student's.
    """
    return {
        name: functools.partial(formats.run_onnx, formats.to_onnx(model))
        for name, model in networks.items()
        if name != "control" or "student" not in networks
    }


def latency(
    model: Mapping[str, Any], batch: int, threads: int, runtime: str = PYTORCH
) -> dict[str, Any] | None:
    """Return a measured network's latency for a batch size and thread count; None if not measured."""
    return next(
        (
            row
            for row in model["latency"]
            if (row["batch"], row["threads"], row["runtime"]) == (batch, threads, runtime)
        ),
        None,
    )


def machine() -> str:
    """Return a description of this machine: cores, processor, device and PyTorch version."""
    return f"{cores()} cores, {platform.machine()}, {training_device()}, torch {torch.__version__}"


def _file_bytes(run: runs.Run, name: str) -> int | None:
    """Return the size of the network's file in bytes; None for a teacher that is not part of the run."""
    path = run.folder / f"{name}.safetensors"
    return path.stat().st_size if path.exists() else None


def _store(run: runs.Run, measures: Mapping[str, Any]) -> None:
    try:
        safe_files.replace(run.folder / FILE, json.dumps(measures))
    except OSError as error:
        raise UserError(runs.cannot_save(error, then=" and measure again")) from None


def stored(run: runs.Run) -> dict[str, Any] | None:
    """Return a run's stored measures; None if there are none or another version of the program wrote them."""
    try:
        measures = safe_files.read_json(run.folder / FILE)
        if measures["format"] != FORMAT or not all(model["latency"] for model in measures["models"].values()):
            return None
        return measures
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


# -- accuracy against latency ----------------------------------------------------------------


@dataclass(frozen=True)
class ParetoPoint:
    """A network in the accuracy-latency plot."""

    run: str  # the run's id
    name: str  # the run's name
    role: str  # "student", "control" or "teacher"
    accuracy: float  # on the test set, 0 to 1
    seconds: float  # median latency
    iqr: float  # interquartile range of the latency, in seconds
    bytes: int


def points(
    measured_runs: Mapping[str, tuple[str, Mapping[str, Any]]], batch: int, threads: int
) -> list[ParetoPoint]:
    """Return one point per measured network, teachers first.

    A teacher that several runs share gives one point, from its latest measurement.

    Args:
        measured_runs: run id -> run name and measures.
        batch: images per batch.
        threads: CPU threads.
    """
    learners: list[ParetoPoint] = []
    teachers: dict[tuple[str, int], tuple[str, ParetoPoint]] = {}
    for id, (name, measures) in measured_runs.items():
        for role, model in measures["models"].items():
            row = latency(model, batch, threads)
            if row is None:
                continue
            point = ParetoPoint(
                id, name, role, model["test_accuracy"], row["median"], row["iqr"], model["bytes"]
            )
            if role == "teacher":
                key = (model["architecture"], model["test_errors"])
                if key not in teachers or measures["when"] > teachers[key][0]:
                    teachers[key] = (measures["when"], dataclasses.replace(point, name=model["architecture"]))
            else:
                learners.append(point)
    return [point for _, point in teachers.values()] + learners


def frontier(candidates: Sequence[ParetoPoint]) -> list[ParetoPoint]:
    """Return the Pareto front of accuracy and latency, from fast to slow.

    A point is on the front unless another is as fast and more accurate, or as accurate and faster.
    """
    best: list[ParetoPoint] = []
    for point in sorted(candidates, key=lambda point: (point.seconds, -point.accuracy)):
        if not best or point.accuracy > best[-1].accuracy:
            best.append(point)
    return best


def verdict(measures: Mapping[str, Any], batch: int, threads: int) -> dict[str, float] | None:
    """Compare a student with its teacher; return None if there is no student or no such latency.

    Returns:
        ``faster``: the teacher's latency divided by the student's; ``less_time``: the fraction of time
        saved; ``points``: the accuracy lost, in percentage points; ``smaller``: the teacher's size
        divided by the student's.
    """
    models = measures["models"]
    if "student" not in models or "teacher" not in models:
        return None
    student, teacher = (latency(models[name], batch, threads) for name in ("student", "teacher"))
    found = measures["models"]
    if "student" not in found or "teacher" not in found:
        return None
    student, teacher = (latency(found[name], batch, threads) for name in ("student", "teacher"))
    if student is None or teacher is None:
        return None
    return {
        "faster": teacher["median"] / student["median"],
        "less_time": 1 - student["median"] / teacher["median"],
        "points": 100 * (models["teacher"]["test_accuracy"] - models["student"]["test_accuracy"]),
        "smaller": models["teacher"]["bytes"] / models["student"]["bytes"],
    }


def bargains(
    measured_runs: Mapping[str, Mapping[str, Any]], batch: int, threads: int
) -> dict[float, tuple[str, dict[str, float]]]:
    """Return the fastest student that costs no more than each of PRICES: price -> run id and verdict."""
    verdicts = {}
    for id, measures in measured_runs.items():
        result = verdict(measures, batch, threads)
        if result:
            verdicts[id] = result
    best = {}
    for price in PRICES:
        affordable = [(id, result) for id, result in verdicts.items() if result["points"] <= price + 1e-9]
        if affordable:
            best[price] = max(affordable, key=lambda pair: pair[1]["faster"])
    return best


def differences(*configs: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Return the settings in which configs (as dicts) differ: name -> each one's value or None."""
    settings = {
        key: tuple(config.get(key) for config in configs)
        for key in {key: None for config in configs for key in config}
    }
    return {key: values for key, values in settings.items() if any(value != values[0] for value in values)}


_COLUMNS = (  # heading, width
    ("accuracy", 9),
    ("control", 9),
    ("teacher", 9),
    ("points", 8),
    ("images", 8),
    ("threads", 8),
    ("ms", 9),
    ("teacher", 9),
    ("faster", 8),
    ("ONNX ms", 9),
)


def text(measured_runs: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a table of the measured students (run id -> measures), each compared with its teacher."""
    lines = [f"{'run':34}{'student':16}" + "".join(f"{head:>{width}}" for head, width in _COLUMNS)]
    for id, measures in measured_runs.items():
        for row in measures["models"].get("student", {}).get("latency", []):
            result = verdict(measures, row["batch"], row["threads"])
            if row["runtime"] == PYTORCH and result is not None:
                lines.append(_line(id, measures["models"], row, result))
    conditions = {
        (row["batch"], row["threads"])
        for measures in measured_runs.values()
        for model in measures["models"].values()
        for row in model["latency"]
    }
    for batch, threads in sorted(conditions):
        for price, (id, result) in bargains(measured_runs, batch, threads).items():
            name = measured_runs[id]["models"]["student"]["architecture"]
            lines.append(
                f"{_count(batch, 'image')}, {_count(threads, 'thread')}, at most "
                f"{price:g} point{'s' if price > 1 else ''}: "
                f"{name} ({result['faster']:.1f}x for {result['points']:.2f})"
            )
    lines.append(
        "Each network in its fastest form; medians of alternating rounds. "
        "Accuracies are on the test set, which was not used to choose anything."
    )
    return "\n".join(lines)


def _line(id: str, models: Mapping[str, Any], row: Mapping[str, Any], result: Mapping[str, float]) -> str:
    """Return a student's line of the table for one batch size and thread count."""
    batch, threads = row["batch"], row["threads"]
    accuracies = [
        f"{models[role]['test_accuracy']:.2%}" if role in models else ""
        for role in ("student", "control", "teacher")
    ]
    teacher = latency(models["teacher"], batch, threads)
    exported = latency(models["student"], batch, threads, ONNX)
    cells = [
        *accuracies,
        f"{result['points']:.2f}",
        str(batch),
        str(threads),
        f"{1e3 * row['median']:.3f}",
        f"{1e3 * teacher['median']:.3f}" if teacher else "",
        f"{result['faster']:.1f}x",
        f"{1e3 * exported['median'] if exported else math.nan:.3f}",
    ]
    columns = "".join(f"{cell:>{width}}" for cell, (_, width) in zip(cells, _COLUMNS))
    return f"{id:34}{models['student']['architecture']:16}{columns}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number > 1 else ''}"
