"""Hinton's table: the MNIST experiments of the paper, each beside the paper's own figure.

Everything is trained on all 60,000 training images, as in the paper, by teachers of its
own; whatever had to be chosen was chosen before, on the 55,000 and the 5,000 validation
images that the rest of the product uses. Its cells are computed by kd.tables.cells.

Source: Hinton, Vinyals & Dean 2015, section 3.
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
from kd.experiments.base import Distillation, Experiment, TeacherTraining
from kd.metrics import class_offsets
from kd.models import inference, registry
from kd.tables import cells
from kd.teachers.cached import CachedTeacher

SEEDS = 5
STORED = paths.MEASURED / "paper.json"
COMMAND = "python -m kd paper --store"

_STUDENT = DistilConfig(student="mlp-800x2", temperature=20.0, soft_weight=1.0, epochs=25, learning_rate=1e-3)
_SMALL = DistilConfig(student="mlp-30", soft_weight=1.0, epochs=25)

#: What is trained. A student's teacher is the row of that name, with the same seed.
ROWS: dict[str, Config] = {
    "cnn": TeacherConfig(teacher="cnn", augmentation="affine", epochs=12),
    "mlp-1200x2": TeacherConfig(teacher="mlp-1200x2", augmentation="jitter", epochs=60, learning_rate=1e-3),
    "soft": _STUDENT.replace(teacher="mlp-1200x2"),
    "soft-cnn": _STUDENT,
    "jittered": _STUDENT.replace(augmentation="jitter", epochs=40),
    # The CNN's students know far less of digits that they never saw: their teacher is too sure of itself.
    "no-3": _STUDENT.replace(omitted="3", teacher="mlp-1200x2"),
    "only-7-8": _STUDENT.replace(omitted="01234569", teacher="mlp-1200x2"),
    **{f"30-units-T{t}": _SMALL.replace(temperature=t) for t in (1, 2, 3, 4, 8, 20)},
}
#: About how long one epoch of a row takes, against the others.
_WEIGHTS = {"cnn": 45, "soft": 10, "soft-cnn": 10, "jittered": 17, "no-3": 9, "only-7-8": 2, "mlp-1200x2": 14}


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of the table. ``read`` takes it from a cell's models: a number for a learner."""

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
    """Where a cell is kept; a student's depends on its teacher's recipe too."""
    return cells.path("paper", (row, seed), [ROWS[name] for name in [row, *_needs(row)]])


def _needs(row: str) -> list[str]:
    """The rows that must be there first."""
    config = ROWS[row]
    return [config.teacher] if kinds.of(config).has_teacher else []


def everything(mnist: digits.Mnist) -> digits.Mnist:
    """MNIST with all of its 60,000 training images in the training part."""
    parts = [mnist.train, mnist.validation]
    whole = {name: torch.cat([getattr(part, name) for part in parts]) for name in ("images", "labels", "ids")}
    return dataclasses.replace(mnist, train=digits.Digits(**whole, file="train"))


def run_cell(row: str, seed: int, progress: cells.Progress = lambda share: None) -> dict[str, Any]:
    """Trains a row with one seed, or goes on where it was stopped, and keeps what came out."""
    path = cell_path(row, seed)
    mnist = everything(cells.full_mnist())
    config = ROWS[row].replace(seed=seed)
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
    """Errors of each model on the test set, and McNemar's test of student against control."""
    test, omitted = experiment.mnist.test, getattr(experiment.config, "omitted", "")
    found, wrong = {}, {}
    for name, model in experiment.trained.items():
        logits = inference.logits_in_chunks(model, test.inputs(), 512).double().cpu()
        wrong[name] = logits.argmax(1) != test.labels.cpu()
        found[name] = _count(logits, test.labels.cpu(), omitted)
        if omitted:
            # Without labels: only how often each digit comes, which is alike for all in the validation images.
            validation = inference.logits_in_chunks(model, experiment.mnist.validation.inputs(), 512)
            moved = class_offsets.by_frequency(
                validation, omitted, torch.full((MNIST.classes,), 1 / MNIST.classes)
            )
            found[name]["by_frequency"] = {
                "offsets": [round(o, 3) for o in moved.tolist()],
                **_count(logits + moved, test.labels.cpu(), omitted),
            }
            tuned = class_offsets.by_labels(logits, test.labels, omitted)
            found[name]["by_test_labels"] = {
                "offsets": tuned.tolist(),
                **_count(logits + tuned, test.labels.cpu(), omitted),
            }
    outcome: dict[str, Any] = {"models": found}
    if "control" in wrong:
        outcome["mcnemar"] = mcnemar(wrong["student"], wrong["control"])
    return outcome


def _count(logits: Tensor, labels: Tensor, omitted: str) -> dict[str, int]:
    wrong = logits.argmax(1) != labels
    counts = {"errors": int(wrong.sum())}
    if omitted:
        counts["errors_on_omitted"] = int(
            (wrong & torch.isin(labels, torch.tensor([int(d) for d in omitted]))).sum()
        )
    return counts


def mcnemar(student_wrong: Tensor, control_wrong: Tensor) -> dict[str, float]:
    """McNemar's exact test of two models on the same images, from masks (N,) of what each got wrong.

    ``p``: how likely so uneven a split of the images that only one of them got wrong would
    be if both were equally good.
    """
    student_only = int((student_wrong & ~control_wrong).sum())
    control_only = int((control_wrong & ~student_wrong).sum())
    p = binomtest(student_only, student_only + control_only).pvalue if student_only + control_only else 1.0
    return {"student_only": student_only, "control_only": control_only, "p": p}


# -- all of them ---------------------------------------------------------------------------


def run(
    seeds: int = SEEDS,
    progress: cells.Progress = lambda share: None,
    workers: int | None = None,
    before: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Computes all cells that are not kept yet, several at once, and returns the table.

    Args:
        workers: processes at once; by default one for each core.
        before: a table of the first seeds, which are not trained again if their recipes are today's.

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
    """All lines with mean and sd over the seeds: those of ``before``, a table itself, and then those of the cells' outcomes."""
    by_row = cells.by_row(outcomes)
    lines = [line for line in LINES if line.row in (before["recipes"] if before else by_row)]
    earlier = before["lines"] if before else [None] * len(lines)
    seconds = {row: sum(cell["seconds"] for cell in same) for row, same in by_row.items()}
    teachers = sum(seconds.get(row, 0) for row, config in ROWS.items() if not kinds.of(config).has_teacher)
    minutes = {"teachers": teachers / 60, "students": (sum(seconds.values()) - teachers) / 60}
    seeds = max(map(len, by_row.values()), default=0) + (before["seeds"] if before else 0)
    return {
        "command": COMMAND if seeds == SEEDS else f"{COMMAND} --seeds {seeds}",
        "seeds": seeds,
        "core_minutes": {
            who: round(found + (before["core_minutes"][who] if before else 0), 1)
            for who, found in minutes.items()
        },
        "machine": cells.machine(),
        "lines": [
            _line(line, by_row.get(line.row, []), found) for line, found in zip(lines, earlier, strict=True)
        ],
        "recipes": {row: _recipe(same[0]["config"]) for row, same in by_row.items()} or before["recipes"],
    }


def still_made(result: Mapping[str, Any]) -> bool:
    """Whether the recipes of a stored table are today's."""
    recipes = result["recipes"]
    return recipes.keys() == ROWS.keys() and all(
        config == type(config).from_dict(recipes[row] | {"seed": config.seed}) for row, config in ROWS.items()
    )


def _recipe(config: dict[str, Any]) -> dict[str, Any]:
    return config | {"seed": "0 …"}


def _line(line: Line, outcomes: list[dict[str, Any]], before: Mapping[str, Any] | None) -> dict[str, Any]:
    def values(who: str, earlier: Mapping[str, Any] | None) -> list[float]:
        return (earlier["values"] if earlier else []) + [line.read(cell["models"][who]) for cell in outcomes]

    ours = values(line.learner, before)
    found = {
        "what": line.what,
        "paper": line.paper,
        "aim": line.aim,
        "unit": line.unit,
        "values": ours,
        **cells.spread(ours),
    }
    if line.learner == "student":
        controls = values("control", before and before["control"])
        found["control"] = {"values": controls, **cells.spread(controls)}
        found["difference"] = cells.spread(
            [value - control for value, control in zip(ours, controls, strict=True)]
        )
        if line.read is _errors:
            found["mcnemar"] = (before["mcnemar"] if before else []) + [cell["mcnemar"] for cell in outcomes]
    return found


def curve(result: Mapping[str, Any]) -> dict[float, Mapping[str, Any]]:
    """Temperature -> the line of the student of 30 units."""
    by_title = {line["what"]: line for line in result["lines"]}
    rows = [
        (config.temperature, line)
        for line in LINES
        if line.row.startswith("30-units") and isinstance(config := ROWS.get(line.row), DistilConfig)
    ]
    return {temperature: by_title[line.what] for temperature, line in rows if line.what in by_title}


def load() -> dict[str, Any]:
    """The table that was measured and stored.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        return json.loads(STORED.read_text())
    except (OSError, ValueError):
        raise UserError(
            f"The stored table is missing or damaged; restore {STORED.name}, or make it by: {COMMAND}"
        ) from None


def store(result: Mapping[str, Any]) -> None:
    """Puts a table where load() finds it."""
    STORED.write_text(json.dumps(result) + "\n")


def text(result: Mapping[str, Any]) -> str:
    """The table to read in a terminal."""
    lines = [f"{'':62}{'paper':>10}{'ours':>16}{'control':>16}"]
    for line in result["lines"]:
        ours, control = (
            cells.shown(m, 1, "" if line["unit"] == "errors" else line["unit"]) if m else ""
            for m in (line, line.get("control"))
        )
        lines.append(f"{line['what']:62}{line['paper'].split(',')[0]:>10}{ours:>16}{control:>16}")
    minutes = result["core_minutes"]
    lines.append(
        f"{result['seeds']} seeds; {minutes['teachers']:.0f} core-minutes for teachers, {minutes['students']:.0f} for students"
    )
    return "\n".join(lines)
