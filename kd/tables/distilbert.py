"""DistilBERT's recipe on the patch Transformer: half the depth and a triple loss.

The student starts with every second layer of the teacher. Source: Sanh et al. 2019 (arXiv 1910.01108),
sections 2 to 4, where the three losses have the weights 5 (soft targets), 2 (task) and 1 (cosine of hidden
states).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from kd import paths
from kd.config.distil import DistilConfig
from kd.data import digits
from kd.device import training_device
from kd.experiments.base import NetworkTeacher
from kd.experiments.distil import Distillation
from kd.metrics import latency, size
from kd.models import registry
from kd.objectives.feature import COSINE
from kd.tables import cells
from kd.teachers import catalogue

SEEDS = 5
TEACHER, STUDENT = "vit", "vit-half"
STORED = paths.MEASURED / "distilbert.json"
COMMAND = "python -m kd distilbert --json > kd/measured/distilbert.json"
BATCH = 256  # images per batch, for the throughput

#: A feature_weight of 1 gives the cosine loss the weight COSINE.
_RECIPE = DistilConfig(
    student=STUDENT,
    teacher=TEACHER,
    method="cosine",
    temperature=2.0,
    soft_weight=5 / 7,
    feature_weight=1 / 7 / COSINE,
    augmentation="jitter",
    epochs=6,
    learning_rate=1e-3,
)
ROWS: dict[str, DistilConfig] = {"inherited": _RECIPE.replace(initialization="teacher"), "random": _RECIPE}

#: What is compared -> what the paper reports for DistilBERT compared with BERT.
PAPER = {"fewer parameters": "40%", "faster": "60%", "of the teacher's accuracy": "97%"}


def run(
    seeds: int = SEEDS, progress: cells.Progress = lambda share: None, workers: int | None = None
) -> dict[str, Any]:
    """Compute all cells that are not stored yet, measure the throughput, and return the table.

    Raises:
        UserError: the full MNIST or the teacher is not there.
    """
    cells.full_mnist()
    reference = catalogue.load(TEACHER)

    outcomes = cells.compute(
        dict.fromkeys(((row, seed) for seed in range(seeds) for row in ROWS), 1.0),
        cell_path,
        run_cell,
        progress,
        workers=workers,
    )
    return table(outcomes, throughput(reference.model))


def cell_path(cell: cells.Cell) -> Path:
    """Return the file of a cell."""
    return cells.path("distilbert", cell, [ROWS[cell[0]]])


def run_cell(row: str, seed: int, progress: cells.Progress = lambda share: None) -> dict[str, Any]:
    """Train a row with one seed, or resume it, and store the test scores."""
    experiment = Distillation(ROWS[row].replace(seed=seed), *_data_and_teacher())
    return cells.finish(cell_path((row, seed)), (row, seed), experiment, progress)


@functools.cache
def _data_and_teacher() -> tuple[digits.Mnist, NetworkTeacher]:
    return cells.full_mnist(), catalogue.load(TEACHER, training_device())


def throughput(model: torch.nn.Module) -> dict[str, float]:
    """Return the images per second of teacher and student with all threads, from alternating rounds."""
    networks = {"teacher": model, "student": registry.build(STUDENT, 0).eval()}
    latencies = latency.compare(networks, batches=(BATCH,), threads=(torch.get_num_threads(),))
    return {name: rows[0]["images_per_second"] for name, rows in latencies.items()}


def table(outcomes: list[dict[str, Any]], images_per_second: Mapping[str, float]) -> dict[str, Any]:
    """Return the table: sizes, throughput, and test accuracies in per cent, mean and sd over the seeds."""
    reference = 100 * outcomes[0]["models"]["teacher"]["test_accuracy"]
    large, small = size.network_size(TEACHER), size.network_size(STUDENT)
    rows = {}
    for row in ROWS:
        same = [cell for cell in outcomes if cell["row"] == row]
        student, control = (
            [100 * cell["models"][role]["test_accuracy"] for cell in same] for role in ("student", "control")
        )
        rows[row] = {"values": student, **cells.spread(student), "control": cells.spread(control)}
    return cells.about(outcomes, COMMAND, SEEDS) | {
        "teacher": {
            "accuracy": reference,
            "parameters": large.parameters,
            "images_per_second": images_per_second["teacher"],
        },
        "student": {"parameters": small.parameters, "images_per_second": images_per_second["student"]},
        "fewer_parameters": 1 - small.parameters / large.parameters,
        "faster": images_per_second["student"] / images_per_second["teacher"],
        "rows": rows,
        "points_below": round(reference - rows["inherited"]["mean"], 3),
        "retained": rows["inherited"]["mean"] / reference,
    }


def load() -> dict[str, Any] | None:
    """Return the stored table, or None if there is none.

    Raises:
        UserError: the file is damaged.
    """
    return cells.stored(STORED, COMMAND)


def summary(result: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return rows of a quantity, our value and the paper's."""
    ours = {
        "fewer parameters": f"{result['fewer_parameters']:.0%}",
        "faster": f"{result['faster'] - 1:.0%}",
        "of the teacher's accuracy": f"{result['retained']:.2%}",
    }
    return [(what, ours[what], paper) for what, paper in PAPER.items()]


def text(result: Mapping[str, Any]) -> str:
    """Return the table as plain text."""
    lines = [
        f"{'':36}{'ours':>16}{'DistilBERT':>16}",
        *(f"{what:36}{ours:>16}{paper:>16}" for what, ours, paper in summary(result)),
        "",
    ]
    lines.append(f"{'teacher ' + TEACHER:36}{result['teacher']['accuracy']:>15.2f}%")
    for row, start in (("inherited", "from the teacher's layers"), ("random", "from random weights")):
        statistic = result["rows"][row]
        lines.append(
            f"{STUDENT + ', ' + start:48}{cells.shown(statistic, unit='%')}"
            f"   (control {cells.shown(statistic['control'], unit='%')})"
        )
    lines.append(
        f"{result['seeds']} seeds, {result['epochs']} epochs, {result['core_minutes']:.0f} core-minutes; "
        f"{result['points_below']:.2f} points below the teacher"
    )
    return "\n".join(lines)
