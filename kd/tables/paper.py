"""The MNIST experiments of Hinton's paper, each compared with the figure in the paper.

As in the paper (Hinton, Vinyals & Dean 2015, section 3), everything is trained on all 60,000 training images,
with teachers of its own. All choices were made earlier, on the 55,000 training and 5,000 validation images
that the rest of the product uses. kd.tables.cells computes the cells.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from scipy.stats import binomtest
from torch import Tensor

from kd import paths
from kd.config import kinds
from kd.config.base import Config
from kd.config.distil import DistilConfig
from kd.config.teacher import TeacherConfig
from kd.data import digits
from kd.data.task import MNIST
from kd.device import training_device
from kd.errors import UserError
from kd.experiments.base import Experiment
from kd.experiments.distil import Distillation
from kd.experiments.teacher import TeacherTraining
from kd.metrics import class_offsets
from kd.models import inference, registry
from kd.tables import cells
from kd.teachers.cached import CachedTeacher

SEEDS = 5
STORED = paths.MEASURED / "paper.json"
COMMAND = "python -m kd paper --store"

_STUDENT = DistilConfig(student="mlp-800x2", temperature=20.0, soft_weight=1.0, epochs=25, learning_rate=1e-3)
_SMALL = DistilConfig(student="mlp-30", soft_weight=1.0, epochs=25)

#: The configs to train. A student's teacher is the row of that name with the same seed.
ROWS: dict[str, Config] = {
    "cnn": TeacherConfig(teacher="cnn", augmentation="affine", epochs=12),
    "mlp-1200x2": TeacherConfig(teacher="mlp-1200x2", augmentation="jitter", epochs=60, learning_rate=1e-3),
    "soft": _STUDENT.replace(teacher="mlp-1200x2"),
    "soft-cnn": _STUDENT,
    "jittered": _STUDENT.replace(augmentation="jitter", epochs=40),
    # The CNN's students learn far less about omitted digits: its soft targets are too confident.
    "no-3": _STUDENT.replace(omitted="3", teacher="mlp-1200x2"),
    "only-7-8": _STUDENT.replace(omitted="01234569", teacher="mlp-1200x2"),
    **{f"30-units-T{t}": _SMALL.replace(temperature=t) for t in (1, 2, 3, 4, 8, 20)},
}
#: Approximate relative duration of an epoch.
_WEIGHTS = {"cnn": 45, "soft": 10, "soft-cnn": 10, "jittered": 17, "no-3": 9, "only-7-8": 2, "mlp-1200x2": 14}


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of the table. ``read`` takes its value from the measures of one network of a cell."""

    what: str
    row: str
    learner: str
    paper: str
    aim: float | None
    read: Callable[[Mapping[str, Any]], float]
    unit: str = "errors"


def _errors(model: Mapping[str, Any]) -> float:
    return model["errors"]


def _omitted(model: Mapping[str, Any]) -> float:
    return model["errors_on_omitted"]


LINES = [
    Line(
        "Teacher 784-1200-1200-10: dropout, bounded weights, jitter",
        "mlp-1200x2",
        "teacher",
        "67",
        70,
        _errors,
    ),
    Line("CNN, the other teacher", "cnn", "teacher", "none", None, _errors),
    Line("Student 784-800-800-10, labels alone", "soft", "control", "146", None, _errors),
    Line("The same, soft targets of the teacher at T = 20", "soft", "student", "74", 70, _errors),
    Line("The same, soft targets of the CNN", "soft-cnn", "student", "none", 70, _errors),
    Line("The same, soft targets of the CNN, jittered images", "jittered", "student", "none", 50, _errors),
    Line("No 3 in the transfer set, as trained", "no-3", "student", "206", 206, _errors),
    Line("… of them on the 1,010 threes", "no-3", "student", "133", None, _omitted),
    Line(
        "No 3, offset by class frequency",
        "no-3",
        "student",
        "109, offset chosen on the test set",
        109,
        lambda m: m["by_frequency"]["errors"],
    ),
    Line(
        "… of them on the 1,010 threes",
        "no-3",
        "student",
        "14",
        14,
        lambda m: m["by_frequency"]["errors_on_omitted"],
    ),
    Line("Only 7 and 8, as trained", "only-7-8", "student", "47.3%", 47.3, lambda m: m["errors"] / 100, "%"),
    Line(
        "Only 7 and 8, offsets by class frequency",
        "only-7-8",
        "student",
        "13.2%, offset chosen on the test set",
        13.2,
        lambda m: m["by_frequency"]["errors"] / 100,
        "%",
    ),
    *[
        Line(
            f"30 units, T = {t}",
            f"30-units-T{t}",
            "student",
            "best" if t in (3, 4) else "worse",
            None,
            _errors,
        )
        for t in (1, 2, 3, 4, 8, 20)
    ],
]


# -- the cells -----------------------------------------------------------------------------


def cell_path(row: str, seed: int) -> Path:
    """Return the file of a cell; a student's depends on its teacher's recipe too."""
    return cells.path("paper", (row, seed), [ROWS[name] for name in [row, *_needs(row)]])


def _needs(row: str) -> list[str]:
    """Return the rows that must be computed first."""
    config: Any = ROWS[row]
    return [config.teacher] if kinds.of(config).has_teacher else []


def everything(mnist: digits.Mnist) -> digits.Mnist:
    """Return MNIST with all of its 60,000 training images in the training part."""
    parts = [mnist.train, mnist.validation]
    images, labels, ids = (
        torch.cat([getattr(part, name) for part in parts]) for name in ("images", "labels", "ids")
    )
    train = dataclasses.replace(mnist.train, images=images, labels=labels, ids=ids)
    return dataclasses.replace(mnist, train=train)


def run_cell(row: str, seed: int, progress: cells.Progress = lambda share: None) -> dict[str, Any]:
    """Train a row with one seed, or resume it, and store the results."""
    path = cell_path(row, seed)
    mnist = everything(cells.full_mnist())
    config: Any = ROWS[row].replace(seed=seed)
    if kinds.of(config).has_teacher:
        weights = cell_path(config.teacher, seed).with_suffix(".safetensors")
        teacher = registry.load(weights, config.teacher).to(training_device())
        experiment: Experiment = Distillation(
            config, mnist, CachedTeacher(config.teacher, config.teacher, teacher)
        )
    else:
        experiment = TeacherTraining(config, mnist)
    seconds = cells.train(experiment, path.with_suffix(".partial"), progress)
    outcome = {
        "row": row,
        "seed": seed,
        "config": config.to_dict(),
        **_outcome(experiment),
        "seconds": seconds,
    }
    if not _needs(row):
        cells.save(path.with_suffix(".safetensors"), experiment.trained["teacher"].state_dict())
    cells.keep(path, outcome)
    return outcome


def _outcome(experiment: Experiment) -> dict[str, Any]:
    """Return the errors of each network on the test set, and McNemar's test of student against control."""
    test, omitted = experiment.mnist.test, getattr(experiment.config, "omitted", "")
    labels = test.labels.cpu()
    models: dict[str, dict[str, Any]] = {}
    wrong = {}
    for name, model in experiment.trained.items():
        logits = inference.logits_in_chunks(model, test.inputs(), 512).double().cpu()
        wrong[name] = logits.argmax(1) != labels
        models[name] = dict(_count(logits, labels, omitted))
        if omitted:
            # This rule needs no labels, only class frequencies: all equal in the validation images.
            validation = inference.logits_in_chunks(model, experiment.mnist.validation.inputs(), 512)
            frequencies = torch.full((MNIST.classes,), 1 / MNIST.classes)
            offsets = class_offsets.by_frequency(validation, omitted, frequencies)
            models[name]["by_frequency"] = {
                "offsets": [round(offset, 3) for offset in offsets.tolist()],
                **_count(logits + offsets, labels, omitted),
            }
            tuned = class_offsets.by_labels(logits, test.labels, omitted)
            models[name]["by_test_labels"] = {
                "offsets": tuned.tolist(),
                **_count(logits + tuned, labels, omitted),
            }
    outcome: dict[str, Any] = {"models": models}
    if "control" in wrong:
        outcome["mcnemar"] = mcnemar(wrong["student"], wrong["control"])
    return outcome


def _count(logits: Tensor, labels: Tensor, omitted: str) -> dict[str, int]:
    """Count the errors, in all and on the omitted digits if there are any."""
    wrong = logits.argmax(1) != labels
    counts = {"errors": int(wrong.sum())}
    if omitted:
        digits_left_out = torch.tensor([int(digit) for digit in omitted])
        counts["errors_on_omitted"] = int((wrong & torch.isin(labels, digits_left_out)).sum())
    return counts


def mcnemar(student_wrong: Tensor, control_wrong: Tensor) -> dict[str, float]:
    """Run McNemar's exact test of two models on the same images.

    Args:
        student_wrong: mask (N,) of the student's errors.
        control_wrong: mask (N,) of the control's errors.

    Returns:
        ``student_only`` and ``control_only``, the numbers of images that only one of them misclassified,
        and ``p``, the probability of a split at least as uneven if both were equally good.
    """
    student_only = int((student_wrong & ~control_wrong).sum())
    control_only = int((control_wrong & ~student_wrong).sum())
    p = binomtest(student_only, student_only + control_only).pvalue if student_only + control_only else 1.0
    return {"student_only": student_only, "control_only": control_only, "p": p}


# -- the table -----------------------------------------------------------------------------


def run(
    seeds: int = SEEDS,
    progress: cells.Progress = lambda share: None,
    workers: int | None = None,
    before: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Compute all cells that are not stored yet, several at once, and return the table.

    Args:
        seeds: the number of seeds.
        progress: called with the fraction that is done.
        workers: processes at once; one per core if None.
        before: a table of the first seeds, which are not trained again if their recipes have not changed.

    Raises:
        UserError: the full MNIST is not there.
    """
    cells.full_mnist()
    if before and not still_made(before):
        before = None
    done = range(before["seeds"] if before else 0)
    cost = {
        (row, seed): _WEIGHTS.get(row, 1) * ROWS[row].epochs
        for seed in range(len(done), seeds)
        for row in ROWS
    }
    return table(
        cells.compute(
            cost,
            lambda cell: cell_path(*cell),
            run_cell,
            progress,
            lambda cell: [(row, cell[1]) for row in _needs(cell[0])],
            workers,
        ),
        before,
    )


def table(outcomes: list[dict[str, Any]], before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return all lines with mean and sd over the seeds.

    Args:
        outcomes: the cells.
        before: a table of earlier seeds, whose values come first.
    """
    by_row = cells.by_row(outcomes)
    lines = [line for line in LINES if line.row in (before["recipes"] if before else by_row)]
    earlier = before["lines"] if before else [None] * len(lines)
    seconds = {row: sum(cell["seconds"] for cell in same) for row, same in by_row.items()}
    teachers = sum(seconds.get(row, 0) for row, config in ROWS.items() if not kinds.of(config).has_teacher)
    minutes = {"teachers": teachers / 60, "students": (sum(seconds.values()) - teachers) / 60}
    seeds = max(map(len, by_row.values()), default=0) + (before["seeds"] if before else 0)
    recipes = {row: _recipe(same[0]["config"]) for row, same in by_row.items()}
    if before and not recipes:
        recipes = before["recipes"]
    return {
        "command": COMMAND if seeds == SEEDS else f"{COMMAND} --seeds {seeds}",
        "seeds": seeds,
        "core_minutes": {
            role: round(spent + (before["core_minutes"][role] if before else 0), 1)
            for role, spent in minutes.items()
        },
        "machine": cells.machine(),
        "lines": [
            _line(line, by_row.get(line.row, []), values) for line, values in zip(lines, earlier, strict=True)
        ],
        "recipes": recipes,
    }


def still_made(result: Mapping[str, Any]) -> bool:
    """Return whether the recipes of a stored table are still the current ones."""
    recipes = result["recipes"]
    return recipes.keys() == ROWS.keys() and all(
        config == type(config).from_dict(recipes[row] | {"seed": config.seed}) for row, config in ROWS.items()
    )


def _recipe(config: dict[str, Any]) -> dict[str, Any]:
    return config | {"seed": "0 …"}


def _line(line: Line, outcomes: list[dict[str, Any]], before: Mapping[str, Any] | None) -> dict[str, Any]:
    def values(role: str, earlier: Mapping[str, Any] | None) -> list[float]:
        new = [line.read(cell["models"][role]) for cell in outcomes]
        return [*earlier["values"], *new] if earlier else new

    ours = values(line.learner, before)
    entry: dict[str, Any] = {
        "what": line.what,
        "paper": line.paper,
        "aim": line.aim,
        "unit": line.unit,
        "values": ours,
        **cells.spread(ours),
    }
    if line.learner == "student":
        controls = values("control", before and before["control"])
        entry["control"] = {"values": controls, **cells.spread(controls)}
        entry["difference"] = cells.spread(
            [value - control for value, control in zip(ours, controls, strict=True)]
        )
        if line.read is _errors:
            entry["mcnemar"] = (before["mcnemar"] if before else []) + [cell["mcnemar"] for cell in outcomes]
    return entry


def curve(result: Mapping[str, Any]) -> dict[float, Mapping[str, Any]]:
    """Return temperature -> the line of the student with 30 units."""
    by_title = {line["what"]: line for line in result["lines"]}
    rows = [
        (config.temperature, line)
        for line in LINES
        if line.row.startswith("30-units") and isinstance(config := ROWS.get(line.row), DistilConfig)
    ]
    return {temperature: by_title[line.what] for temperature, line in rows if line.what in by_title}


def load() -> dict[str, Any]:
    """Return the stored table.

    Raises:
        UserError: the file is missing or damaged.
    """
    table = cells.stored(STORED, COMMAND)
    if table is None:
        raise UserError(f"The stored table {STORED.name} is missing. Restore it, or make it with: {COMMAND}")
    return table


def store(result: Mapping[str, Any]) -> None:
    """Store a table where load() finds it."""
    STORED.write_text(json.dumps(result) + "\n")


def text(result: Mapping[str, Any]) -> str:
    """Return the table as plain text."""
    lines = [f"{'':62}{'paper':>10}{'ours':>16}{'control':>16}"]
    for line in result["lines"]:
        ours, control = (
            cells.shown(value, 1, "" if line["unit"] == "errors" else line["unit"]) if value else ""
            for value in (line, line.get("control"))
        )
        lines.append(f"{line['what']:62}{line['paper'].split(',')[0]:>10}{ours:>16}{control:>16}")
    minutes = result["core_minutes"]
    lines.append(
        f"{result['seeds']} seeds; {minutes['teachers']:.0f} core-minutes for teachers, "
        f"{minutes['students']:.0f} for students"
    )
    return "\n".join(lines)
