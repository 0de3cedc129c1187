"""Each technique alone, and a chain of several, on one student and its control; recovered with the teacher and from labels.

With all labels a recovery hardly needs a teacher; with a hundred it does, so both are
measured. Sizes and latencies depend on shapes alone and are measured once, after all
training.
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
from kd.data.task import MNIST
from kd.device import training_device
from kd.experiments.base import Distillation
from kd.experiments.compression import BATCHES, THREADS, Recovery, Whole
from kd.metrics import classification
from kd.metrics.latency import compare
from kd.models import compression, inference, quantization, registry
from kd.models.stored_size import stored_size
from kd.tables import cells
from kd.teachers import cached, catalogue

SEEDS = 3
STUDENT = "mlp-800x2"
FEW = 100
STORED = paths.MEASURED / "compress.json"
COMMAND = "python -m kd techniques --json > kd/measured/compress.json"

#: Hinton's student, as in the README.
BASE = DistilConfig(student=STUDENT, temperature=20.0, soft_weight=1.0, learning_rate=2e-3, epochs=20)
_PLAIN = CompressConfig(neurons=0)
#: What is taken away, and what it is called.
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
#: Labels in the recovery: name -> how many; 0 for all.
LABELS = {"all": 0, "few": FEW}
_WEIGHTS = {
    "base": 20.0,
    "weights": 8.0,
    "int8 dynamic": 0.1,
    "int8 static": 0.1,
}  # how long a cell takes, about


def run(
    seeds: int = SEEDS, progress: cells.Progress = lambda share: None, workers: int | None = None
) -> dict[str, Any]:
    """Computes all cells that are not kept yet, several at once, measures the latencies, and returns the table.

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
    """Where a cell is kept; what is compressed is part of what it depends on."""
    recipes: list[Config] = [BASE] if cell[0] == "base" else [BASE, ROWS[cell[0]][1]]
    return cells.path("techniques", cell, recipes)


def run_cell(row: str, seed: int, progress: cells.Progress = lambda share: None) -> dict[str, Any]:
    """Trains a row with one seed and keeps what came out on the test set."""
    mnist, reference = _given()
    if row == "base":
        experiment = Distillation(BASE.replace(seed=seed), mnist, reference)
        outcome = cells.finish(cell_path((row, seed)), (row, seed), experiment, progress)
        for name, model in experiment.trained.items():
            cells.save(_weights(name, seed), model.state_dict())
        return outcome
    config, began = ROWS[row][1].replace(seed=seed), time.process_time()
    source = Whole(
        STUDENT, STUDENT, *(registry.load(_weights(name, seed), STUDENT) for name in ("student", "control"))
    )
    if not any(config.percents.values()):
        found = {name: _quantized(source, config, mnist, reference) for name in LABELS}
    else:
        found = {}
        for place, (name, labels) in enumerate(LABELS.items()):
            experiment = Recovery(config.replace(labels=labels), mnist, reference, source)
            for record in experiment.records():
                progress((place + record.step / record.steps) / len(LABELS))
            found[name] = experiment.measured(latencies=False)
    outcome = {
        "row": row,
        "seed": seed,
        "config": config.to_dict(),
        "stages": found,
        "seconds": round(time.process_time() - began, 1),
    }
    cells.keep(cell_path((row, seed)), outcome)
    return outcome


def _weights(name: str, seed: int) -> Path:
    return cell_path(("base", seed)).with_suffix(f".{name}.safetensors")


@functools.cache
def _given() -> tuple[digits.Mnist, cached.CachedTeacher]:
    return cells.full_mnist(), catalogue.load(MNIST.teacher, training_device())


def _quantized(
    source: Whole, config: CompressConfig, mnist: digits.Mnist, reference: cached.CachedTeacher
) -> list[dict[str, Any]]:
    """As Recovery.measured, of int8 alone, which is not trained."""
    images, test = mnist.validation.take(slice(compression.CALIBRATION)).inputs(), mnist.test
    found = []
    for who, model in source.networks.items():
        for stage, network in {
            "original": model,
            "compressed": quantization.quantize(model, config.int8, images),
        }.items():
            said = inference.logits_in_chunks(network, test.inputs(), 512)
            found.append(
                {
                    "who": who,
                    "stage": stage,
                    **dataclasses.asdict(stored_size(network)),
                    **classification.scores(said, test.labels, reference.logits(test).cpu()),
                }
            )
    return found


def costs() -> dict[str, list[dict[str, Any]]]:
    """The latencies of the student as it was and of each row's, in alternating rounds."""
    images = cells.full_mnist().validation.take(slice(compression.CALIBRATION)).inputs()
    networks = {"base": registry.build(STUDENT, 0).eval()}
    for row, (_, config) in ROWS.items():
        network = networks["base"]
        for _, network in compression.steps(network, config.percents, images):
            pass
        networks[row] = (
            network if config.int8 == "off" else quantization.quantize(network, config.int8, images)
        )
    return compare(networks, BATCHES, THREADS)


def table(outcomes: list[dict[str, Any]], latencies: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Sizes, latencies, and errors on the test set, mean and sd over the seeds."""
    by_row = cells.by_row(outcomes)
    base = by_row["base"]
    rows = {}
    for row, (title, config) in ROWS.items():
        same = by_row[row]
        last = [stage for stage in same[0]["stages"]["all"] if stage["who"] == "student"][-1]
        errors: dict[str, dict[str, Any]] = {}
        for name in LABELS:
            by_network: dict[tuple[str, str], list[int]] = {}
            for cell in same:
                for stage in cell["stages"][name]:
                    by_network.setdefault((stage["who"], stage["stage"]), []).append(stage["test_errors"])
            errors[name] = {
                f"{who} {stage}": cells.spread(values, 1)
                for (who, stage), values in by_network.items()
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
                who: cells.spread([cell["models"][who]["test_errors"] for cell in base], 1)
                for who in ("student", "control")
            },
        },
        "rows": rows,
    }


def load() -> dict[str, Any] | None:
    """The table that was measured and stored, or None where there is none yet.

    Raises:
        UserError: the file is damaged.
    """
    return cells.stored(STORED, COMMAND)


def final(errors: Mapping[str, Any], who: str, stage: str = "recovered") -> dict[str, float] | None:
    """Errors of a network in the end: in int8, where that follows a recovery. None where there was none."""
    return errors.get(f"{who} int8" if stage == "recovered" and f"{who} int8" in errors else f"{who} {stage}")


def lines(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The table's rows, by their headings: errors as text, sizes and latencies as numbers."""

    def shown(found: Mapping[str, float] | None) -> str:
        return "" if found is None else cells.shown(found, 0)

    base = result["base"]
    found = [
        {
            "what is done": "nothing",
            "KB": base["file_bytes"] / 1024,
            "zipped KB": base["zipped_bytes"] / 1024,
            **_times(base["latency"]),
            "at once": shown(base["student"]),
            "with the teacher": "",
            "from labels": "",
            "never distilled": shown(base["control"]),
            **{
                f"{heading}, {result['few']} labels": ""
                for heading in ("with the teacher", "from labels", "never distilled")
            },
        }
    ]
    for of in result["rows"].values():
        every, few = of["errors"]["all"], of["errors"]["few"]
        found.append(
            {
                "what is done": of["title"],
                "KB": of["file_bytes"] / 1024,
                "zipped KB": of["zipped_bytes"] / 1024,
                **_times(of["latency"]),
                "at once": shown(final(every, "student", "compressed")),
                "with the teacher": shown(final(every, "student")),
                "from labels": shown(final(every, "control")),
                "never distilled": shown(final(every, "alone") or final(every, "alone", "compressed")),
                f"with the teacher, {result['few']} labels": shown(final(few, "student")),
                f"from labels, {result['few']} labels": shown(final(few, "control")),
                f"never distilled, {result['few']} labels": shown(final(few, "alone")),
            }
        )
    return found


def _times(latency: list[Mapping[str, Any]]) -> dict[str, float]:
    return {f"ms at {at['batch']}": 1e3 * at["median"] for at in latency}


def text(result: Mapping[str, Any]) -> str:
    """The table to read in a terminal, in Markdown."""
    rows = lines(result)
    written = [
        [
            f"{value:.3g}"
            if isinstance(value, float) and value < 100
            else f"{value:,.0f}"
            if isinstance(value, float)
            else value
            for value in row.values()
        ]
        for row in rows
    ]
    return "\n".join(
        [
            "| " + " | ".join(rows[0]) + " |",
            "|" + "---|" * len(rows[0]),
            *("| " + " | ".join(row) + " |" for row in written),
            "",
            f"{result['student']}, {result['seeds']} seeds, {result['epochs']} epochs of recovery, {result['core_minutes']:.0f} core-minutes; errors in 10,000 test images",
        ]
    )
