"""Compare compression techniques on one student and its control: each alone, and a chain of several.

Compressed networks are fine-tuned with the teacher and from labels. With all labels fine-tuning hardly
needs a teacher; with a hundred it does, so both are measured. Sizes and latencies depend on shapes alone
and are measured once, after all training.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kd import paths
from kd.config.base import Config
from kd.config.compress import CompressConfig
from kd.config.distil import DistilConfig
from kd.data import digits
from kd.device import training_device
from kd.experiments.base import NetworkTeacher
from kd.experiments.compress import BATCHES, THREADS, FineTuning, SourceNetworks
from kd.experiments.distil import Distillation
from kd.metrics import classification
from kd.metrics.latency import compare
from kd.models import compression, inference, quantization, registry
from kd.models.stored_size import stored_size
from kd.tables import cells
from kd.teachers import catalogue

SEEDS = 3
STUDENT = "mlp-800x2"
FEW = 100
STORED = paths.MEASURED / "compress.json"
COMMAND = "python -m kd techniques --json > kd/measured/compress.json"

#: Hinton's student, as in the documentation.
BASE = DistilConfig(
    student=STUDENT,
    teacher=cells.TEACHER,
    temperature=20.0,
    soft_weight=1.0,
    learning_rate=2e-3,
    epochs=20,
)
_PLAIN = CompressConfig(neurons=0)
#: Row -> the technique's title and settings.
ROWS: dict[str, tuple[str, CompressConfig]] = {
    "neurons": ("80% of the neurons, by weight", _PLAIN.replace(neurons=80)),
    "activation": ("80% of the neurons, by activation", _PLAIN.replace(activation=80)),
    "rank": ("85% of the weights, by low rank", _PLAIN.replace(rank=85)),
    "weights": ("95% of the weights set to zero", _PLAIN.replace(weights=95)),
    "int8 dynamic": ("int8, dynamic", _PLAIN.replace(int8="dynamic")),
    "int8 static": ("int8, static", _PLAIN.replace(int8="static")),
    "chain": (
        "50% of the neurons, then 50% by low rank, then int8, dynamic",
        _PLAIN.replace(neurons=50, rank=50, int8="dynamic"),
    ),
}
#: Labels for fine-tuning: name -> how many; 0 for all.
LABELS = {"all": 0, "few": FEW}
#: Approximate relative duration of a cell.
_WEIGHTS = {"base": 20.0, "weights": 8.0, "int8 dynamic": 0.1, "int8 static": 0.1}


def run(
    seeds: int = SEEDS, progress: cells.Progress = lambda share: None, workers: int | None = None
) -> dict[str, Any]:
    """Compute all cells that are not stored yet, measure the latencies, and return the table.

    Raises:
        UserError: the full MNIST is not there.
    """
    cells.full_mnist()
    cost = {(row, seed): _WEIGHTS.get(row, 3.0) for seed in range(seeds) for row in ("base", *ROWS)}
    outcomes = cells.compute(
        cost,
        cell_path,
        run_cell,
        progress,
        lambda cell: [] if cell[0] == "base" else [("base", cell[1])],
        workers,
    )
    return table(outcomes, costs())


def cell_path(cell: cells.Cell) -> Path:
    """Return the file of a cell, which depends on the network that is compressed too."""
    recipes: list[Config] = [BASE] if cell[0] == "base" else [BASE, ROWS[cell[0]][1]]
    return cells.path("techniques", cell, recipes)


def run_cell(row: str, seed: int, progress: cells.Progress = lambda share: None) -> dict[str, Any]:
    """Train a row with one seed, and store the test scores."""
    mnist, reference = _data_and_teacher()
    if row == "base":
        distillation = Distillation(BASE.replace(seed=seed), mnist, reference)
        outcome = cells.finish(cell_path((row, seed)), (row, seed), distillation, progress)
        for name, model in distillation.trained.items():
            cells.save(_weights(name, seed), model.state_dict())
        return outcome
    config, began = ROWS[row][1].replace(seed=seed), time.process_time()
    student, control = (registry.load(_weights(name, seed), STUDENT) for name in ("student", "control"))
    source = SourceNetworks(STUDENT, STUDENT, student, control)
    if not any(config.percents.values()):
        stages = {name: _quantized(source, config, mnist, reference) for name in LABELS}
    else:
        stages = {}
        for place, (name, labels) in enumerate(LABELS.items()):
            fine_tuning = FineTuning(config.replace(labels=labels), mnist, reference, source)
            for record in fine_tuning.records():
                progress((place + record.step / record.steps) / len(LABELS))
            stages[name] = fine_tuning.measured(latencies=False)
    outcome = {
        "row": row,
        "seed": seed,
        "config": config.to_dict(),
        "stages": stages,
        "seconds": round(time.process_time() - began, 1),
    }
    cells.keep(cell_path((row, seed)), outcome)
    return outcome


def _weights(name: str, seed: int) -> Path:
    return cell_path(("base", seed)).with_suffix(f".{name}.safetensors")


@functools.cache
def _data_and_teacher() -> tuple[digits.Mnist, NetworkTeacher]:
    return cells.full_mnist(), catalogue.load(cells.TEACHER, training_device())


def _quantized(
    source: SourceNetworks, config: CompressConfig, mnist: digits.Mnist, reference: NetworkTeacher
) -> list[dict[str, Any]]:
    """Measure int8 alone, which is not trained, like FineTuning.measured()."""
    images, test = mnist.validation.take(slice(compression.CALIBRATION)).inputs(), mnist.test
    rows = []
    for role, model in source.networks.items():
        quantized = quantization.quantize(model, config.int8, images)
        for stage, network in (("original", model), ("compressed", quantized)):
            logits = inference.logits_in_chunks(network, test.inputs(), 512)
            rows.append(
                {
                    "who": role,
                    "stage": stage,
                    **dataclasses.asdict(stored_size(network)),
                    **classification.scores(logits, test.labels, reference.logits(test).cpu()),
                }
            )
    return rows


def costs() -> dict[str, list[dict[str, Any]]]:
    """Measure the latencies of the original student and of each row's, in alternating rounds."""
    images = cells.full_mnist().validation.take(slice(compression.CALIBRATION)).inputs()
    networks = {"base": registry.build(STUDENT, 0).eval()}
    for row, (_, config) in ROWS.items():
        network = networks["base"]
        for _, step in compression.steps(network, config.percents, images):
            network = step
        networks[row] = (
            network if config.int8 == "off" else quantization.quantize(network, config.int8, images)
        )
    return compare(networks, BATCHES, THREADS)


def table(outcomes: list[dict[str, Any]], latencies: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return the table: sizes, latencies, and test errors, mean and sd over the seeds."""
    by_row = cells.by_row(outcomes)
    base = by_row["base"]
    rows = {}
    for row, (title, _) in ROWS.items():
        same = by_row[row]
        last = [stage for stage in same[0]["stages"]["all"] if stage["who"] == "student"][-1]
        errors: dict[str, dict[str, Any]] = {}
        for name in LABELS:
            by_network: dict[tuple[str, str], list[int]] = {}
            for cell in same:
                for stage in cell["stages"][name]:
                    by_network.setdefault((stage["who"], stage["stage"]), []).append(stage["test_errors"])
            errors[name] = {
                f"{role} {stage}": cells.spread(values)
                for (role, stage), values in by_network.items()
                if stage != "original"
            }
        rows[row] = {
            "title": title,
            "errors": errors,
            "latency": latencies[row],
            **{key: last[key] for key in ("parameters", "nonzero", "file_bytes", "zipped_bytes")},
        }
    first = next(
        stage
        for stage in by_row["neurons"][0]["stages"]["all"]
        if (stage["who"], stage["stage"]) == ("student", "original")
    )
    return {
        "command": cells.command(COMMAND, len(base), SEEDS),
        "student": STUDENT,
        "seeds": len(base),
        "epochs": _PLAIN.epochs,
        "few": FEW,
        "core_minutes": round(sum(cell["seconds"] for cell in outcomes) / 60, 1),
        "machine": cells.machine(),
        "base": {
            "latency": latencies["base"],
            **{key: first[key] for key in ("parameters", "nonzero", "file_bytes", "zipped_bytes")},
            **{
                role: cells.spread([cell["models"][role]["test_errors"] for cell in base])
                for role in ("student", "control")
            },
        },
        "rows": rows,
    }


def load() -> dict[str, Any] | None:
    """Return the stored table, or None if there is none.

    Raises:
        UserError: the file is damaged.
    """
    return cells.stored(STORED, COMMAND)


def final(errors: Mapping[str, Any], role: str, stage: str = "recovered") -> dict[str, float] | None:
    """Return a network's final errors: after int8 if that follows fine-tuning; None if there are none."""
    if stage == "recovered" and f"{role} int8" in errors:
        return errors[f"{role} int8"]
    return errors.get(f"{role} {stage}")


def lines(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the table's rows by heading: test errors as text, sizes and latencies as numbers."""

    def shown(statistic: Mapping[str, float] | None) -> str:
        return "" if statistic is None else cells.shown(statistic, 0)

    base, few_labels = result["base"], f"{result['few']} labels"
    rows = [
        {
            "technique": "none",
            "KB": base["file_bytes"] / 1024,
            "zipped KB": base["zipped_bytes"] / 1024,
            **_times(base["latency"]),
            "not fine-tuned": shown(base["student"]),
            "with the teacher": "",
            "on labels": "",
            "never distilled": shown(base["control"]),
            f"with the teacher, {few_labels}": "",
            f"on labels, {few_labels}": "",
            f"never distilled, {few_labels}": "",
        }
    ]
    for row in result["rows"].values():
        every, few = row["errors"]["all"], row["errors"]["few"]
        rows.append(
            {
                "technique": row["title"],
                "KB": row["file_bytes"] / 1024,
                "zipped KB": row["zipped_bytes"] / 1024,
                **_times(row["latency"]),
                "not fine-tuned": shown(final(every, "student", "compressed")),
                "with the teacher": shown(final(every, "student")),
                "on labels": shown(final(every, "control")),
                "never distilled": shown(final(every, "alone") or final(every, "alone", "compressed")),
                f"with the teacher, {few_labels}": shown(final(few, "student")),
                f"on labels, {few_labels}": shown(final(few, "control")),
                f"never distilled, {few_labels}": shown(final(few, "alone")),
            }
        )
    return rows


def _times(latency: list[Mapping[str, Any]]) -> dict[str, float]:
    return {f"ms at {measured['batch']}": 1e3 * measured["median"] for measured in latency}


def text(result: Mapping[str, Any]) -> str:
    """Return the table as Markdown."""
    rows = lines(result)
    table = [
        "| " + " | ".join(rows[0]) + " |",
        "|" + "---|" * len(rows[0]),
        *("| " + " | ".join(_written(value) for value in row.values()) + " |" for row in rows),
        "",
        f"{result['student']}, {result['seeds']} seeds, {result['epochs']} epochs of fine-tuning, "
        f"{result['core_minutes']:.0f} core-minutes; errors in 10,000 test images",
    ]
    return "\n".join(table)


def _written(value: float | str) -> str:
    """Format a cell of the table."""
    if isinstance(value, str):
        return value
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"
