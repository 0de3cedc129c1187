"""Compare stored runs: latency, size and accuracy of each network, and the Pareto front among them."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import itertools
import json
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
from kd.evaluation import speeds
from kd.export import formats
from kd.metrics import classification, size
from kd.metrics.latency import BATCHES, PYTORCH, ROUNDS, compare, thread_counts
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


Teacher = CachedTeacher | MeanTeacher

_DISTURBED = (
    "Training began during this measurement, so its times are unreliable and were not kept. "
    "Measure again when the training has ended."
)


def measure(
    chosen: Sequence[runs.Run],
    mnist: Mnist,
    teacher: Callable[[runs.Run], Teacher],
    rounds: int | None = None,
    seconds: float = 0.01,
    progress: Callable[[float, str], Any] = lambda share, what: None,
    disturbed: Callable[[], bool] = lambda: False,
) -> tuple[dict[str, dict[str, Any]], dict[str, UserError]]:
    """Measure the networks of runs and their teachers, and store the results with the runs.

    Accuracy and the like are measured on the test set, and only once for each run. The latency of each
    architecture is measured once for all of its networks, all architectures in the same alternating rounds.

    Args:
        chosen: stored runs.
        mnist: the data; only its test set is used.
        teacher: returns the teacher that a run learned from; for a teacher's own run, any to compare with.
        rounds: rounds per latency (see kd.metrics.latency); latency.ROUNDS if None.
        seconds: minimum duration of one latency measurement, in seconds.
        progress: called often, while nothing is timed, with the fraction that is done and what comes next.
        disturbed: called as often, and at the end; if it returns True, nothing is stored.

    Returns:
        The measures of each run by its id, with accuracies as fractions, sizes in bytes and latencies in
        seconds; and the problem of each run that could not be measured or stored.

    Raises:
        UserError: the measurement was disturbed.
    """
    device, found, problems = training_device(), {}, {}
    networks: dict[str, nn.Module] = {}
    for place, run in enumerate(chosen):
        progress(0.3 * place / len(chosen), f"Classifying the test images: {run.name}")
        try:
            found[run.id] = _evaluated(run, mnist, teacher(run))
            for role, model in found[run.id].items():
                if model["architecture"] not in networks:
                    network = run.model(role).to(device) if role in run.models else teacher(run).model
                    networks[model["architecture"]] = network
        except UserError as error:
            found.pop(run.id, None)
            problems[run.id] = error
    total = max(1, len(networks)) * len(BATCHES) * len(thread_counts())
    calls = itertools.count()

    def check() -> None:
        share = min(1.0, next(calls) / (total + (rounds or ROUNDS) * total / max(1, len(networks))))
        progress(0.3 + 0.7 * share, f"Timing {_count(len(networks), 'network')} in turn")
        if disturbed():
            raise UserError(_DISTURBED)

    latencies = compare(
        networks, rounds=rounds or ROUNDS, seconds=seconds, exported=_exported(networks), between=check
    )
    check()
    about = {
        "format": FORMAT,
        "when": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "machine": machine(),
        "source": mnist.source,
        "test_images": len(mnist.test),
    }
    measures = {}
    for run in chosen:
        if run.id in found:
            models = {
                role: model | {"latency": latencies[model["architecture"]]}
                for role, model in found[run.id].items()
            }
            try:
                _store(run, about | {"models": models})
                measures[run.id] = about | {"models": models}
            except UserError as error:
                problems[run.id] = error
    return measures, problems


def measured(run: runs.Run, mnist: Mnist, teacher: Teacher, **options: Any) -> dict[str, Any]:
    """Measure a single run, as measure() does, and return its measures.

    Raises:
        UserError: a file of the run is missing or damaged, the measurement was disturbed, or the result
            cannot be stored.
    """
    measures, problems = measure([run], mnist, lambda run: teacher, **options)
    for problem in problems.values():
        raise problem
    return measures[run.id]


def _evaluated(run: runs.Run, mnist: Mnist, teacher: Teacher) -> dict[str, dict[str, Any]]:
    """Return the sizes and the quality of a run's networks and its teacher, by role: stored ones if possible.

    Raises:
        UserError: a file of the run is missing or damaged.
    """
    device = training_device()
    networks = {role: run.model(role).to(device) for role in run.models}
    before = stored(run)
    if before and (before["source"], before["test_images"]) == (mnist.source, len(mnist.test)):
        return before["models"]
    test = mnist.to(device).test
    logits = {
        role: inference.logits_in_chunks(network, test.inputs(), 512).cpu()
        for role, network in networks.items()
    }
    if "teacher" not in logits:
        logits["teacher"] = teacher.logits(test).cpu()  # from its cache
    architectures = {"teacher": teacher.architecture} | dict.fromkeys(networks, run.architecture)
    labels = test.labels.cpu()
    return {
        role: {
            "architecture": architectures[role],
            **dataclasses.asdict(size.network_size(architectures[role])),
            "file_bytes": _file_bytes(run, role),
            **classification.quality(outputs, labels, logits["teacher"]),
        }
        for role, outputs in logits.items()
    }


def known(run: runs.Run) -> dict[str, Any]:
    """Return what is known of a run's first network without measuring: its size, and how accurate it is.

    ``interval`` is Wilson's 95% confidence interval of the accuracy; ``points`` are lost against the teacher,
    and ``control`` is the control's accuracy, None if there is none.
    """
    role, tested = run.models[0], run.measures["models"]
    accuracy, images = tested[role]["test_accuracy"], run.measures.get("test_images", 0)
    teacher = tested.get("teacher", {}).get("test_accuracy") if role != "teacher" else None
    return {
        "architecture": run.architecture,
        **dataclasses.asdict(size.network_size(run.architecture)),
        "file_bytes": _file_bytes(run, role),
        "test_accuracy": accuracy,
        "interval": classification.interval(round(accuracy * images), images) if images else None,
        "control": tested.get("control", {}).get("test_accuracy"),
        "teacher": teacher,
        "points": None if teacher is None else 100 * (teacher - accuracy),
    }


def teacher_of(run: runs.Run) -> str:
    """Return the name of the teacher to measure a run against; for a teacher's own run, the shipped one."""
    config: Any = run.config
    return config.teacher if run.about.has_teacher else MNIST.teacher


def _exported(networks: Mapping[str, nn.Module]) -> dict[str, Callable[[int], formats.LogitsFunction]]:
    """Return a function per network that runs its ONNX file."""
    return {
        name: functools.partial(formats.run_onnx, formats.to_onnx(model)) for name, model in networks.items()
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
        whole = measures["format"] == FORMAT and measures["machine"] and measures["when"]
        timed = all(model["latency"] and model["architecture"] for model in measures["models"].values())
        return measures if whole and timed else None
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
        ``faster``: the teacher's latency divided by the student's, ``low`` and ``high``: its range, and
        ``clear``: whether the range is narrow and both were measured at the same time (1 or 0);
        ``less_time``: the fraction of time saved; ``points``: the accuracy lost, in percentage points;
        ``smaller``: the teacher's size divided by the student's.
    """
    models = measures["models"]
    if "student" not in models or "teacher" not in models:
        return None
    student, teacher = (latency(models[role], batch, threads) for role in ("student", "teacher"))
    if student is None or teacher is None:
        return None
    speedup = speeds.speedup(student, teacher)
    together = models["student"].get("latency_when") == models["teacher"].get("latency_when")
    return {
        "faster": speedup.median,
        "low": speedup.low,
        "high": speedup.high,
        "clear": float(speedup.clear and together),
        "less_time": 1 - student["median"] / teacher["median"],
        "points": 100 * (models["teacher"]["test_accuracy"] - models["student"]["test_accuracy"]),
        "smaller": models["teacher"]["bytes"] / models["student"]["bytes"],
    }


def bargains(
    measured_runs: Mapping[str, Mapping[str, Any]], batch: int, threads: int
) -> dict[float, tuple[str, dict[str, float]]]:
    """Return the fastest student that costs no more than each of PRICES: price -> run id and verdict.

    Only students that are clearly faster than their teachers count.
    """
    verdicts = {}
    for id, measures in measured_runs.items():
        result = verdict(measures, batch, threads)
        if result and result["clear"] and result["faster"] > 1:
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


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number > 1 else ''}"
