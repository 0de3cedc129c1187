"""Score networks on drawings given as strokes: python -m benchmarks.pen DRAWINGS.json[.gz]

    python -m benchmarks.pen DRAWINGS [--teacher NAME ...] [--student RUN ...] [--weights FILE ARCHITECTURE]

Draws them as the app's canvas does, with its pen and then with one thing changed at a time: thinner and
thicker pens, sizes, rotations and slants. Prints one Markdown table. "Rejected" means that the app would say
that the drawing is not one digit. It asks the teacher: for a student, that of its run; for a file, the file's
network. Never train on these drawings, nor choose anything by them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks import drawings
from benchmarks.drawings import Condition, Drawing, Rendered
from kd.cli.output import load_mnist
from kd.data.digits import Digits, normalize
from kd.data.task import MNIST
from kd.drawing import oddities
from kd.drawing.familiarity import Familiar
from kd.errors import UserError
from kd.evaluation import comparison
from kd.models import inference, registry
from kd.store import finding
from kd.teachers import catalogue

#: What is changed, one at a time; pens in pixels of a canvas of 280.
PENS = (12.0, 28.0)
SIZES = (0.6, 1.3)
ROTATIONS = (-15.0, 15.0)
SLANTS = (-0.3, 0.3)
SURE = 0.9

COLUMNS = {
    "digits": "digits",
    "accuracy": "accuracy",
    "sure_errors": f"wrong, at least {SURE:.0%} sure",
    "rejected_digits": "rejected digits",
    "rejected_letters": "rejected letters",
    "rejected_errors": "rejected errors",
    "rejected_correct": "rejected correct answers",
    "several": "digits called several",
}


@dataclass(frozen=True)
class Network:
    """A network to score, and what tells what looks like a digit to its teacher."""

    name: str
    model: nn.Module
    familiar: Familiar


def conditions(
    pens: Sequence[float] = PENS,
    sizes: Sequence[float] = SIZES,
    rotations: Sequence[float] = ROTATIONS,
    slants: Sequence[float] = SLANTS,
) -> list[Condition]:
    """Return how drawings are drawn: first as in the app, then with one thing changed at a time."""
    found = [drawings.AS_DRAWN]
    for name, values in (("pen", pens), ("size", sizes), ("rotation", rotations), ("slant", slants)):
        found += [drawings.AS_DRAWN._replace(**{name: value}) for value in values]
    return list(dict.fromkeys(found))


def scores(rendered: Rendered, network: Network, several: np.ndarray, chosen: np.ndarray) -> dict[str, Any]:
    """Return the figures of one row: shares from 0 to 1, None of nothing.

    Args:
        rendered: the drawings.
        network: the network that answers.
        several: (N,) str or None, the oddity of each image.
        chosen: (N,) bool, the drawings to count.
    """
    images, labels = rendered.images[chosen], rendered.labels[chosen]
    inputs = normalize(torch.from_numpy(images))
    shares = inference.logits_in_chunks(network.model, inputs).softmax(1)
    empty = ~images.any((1, 2))
    sure, answers = (values.numpy() for values in shares.max(1))
    odd = several[chosen]
    rejected = ~network.familiar.knows(inputs).numpy() | (odd != "") | empty
    digit = labels != drawings.LETTER
    right = digit & (answers == labels) & ~empty
    wrong = digit & ~right
    return {
        "digits": int(digit.sum()),
        "letters": int((~digit).sum()),
        "accuracy": _share(right, digit),
        "sure_errors": _share(wrong & (sure >= SURE) & ~empty, digit),
        "rejected_digits": _share(rejected, digit),
        "rejected_letters": _share(rejected, ~digit),
        "rejected_errors": _share(rejected, wrong),
        "rejected_correct": _share(rejected, right),
        "several": _share(odd == "several", digit),
    }


def _share(found: np.ndarray, of: np.ndarray) -> float | None:
    """Return which share of ``of``, (N,) bool, is ``found``; None if ``of`` is empty."""
    return float((found & of).sum() / of.sum()) if of.any() else None


def measure(found: Sequence[Drawing], networks: Sequence[Network], how: Sequence[Condition]) -> list[dict]:
    """Return the rows of the table: each network under each condition, then by habit as drawn."""
    rows: dict[str, list[dict]] = {network.name: [] for network in networks}
    everything = np.ones(len(found), bool)
    habits = np.array([drawing.habit for drawing in found])
    for condition in how:
        rendered = drawings.render(found, condition)
        odd = np.array([oddities.oddity(image) or "" for image in rendered.images])
        parts = [(str(condition), everything)]
        if condition == how[0]:
            parts += [(habit, habits == habit) for habit in dict.fromkeys(habits.tolist()) if habit]
        for network in networks:
            for name, chosen in parts:
                row = {"network": network.name, "drawn": name}
                rows[network.name].append(row | scores(rendered, network, odd, chosen))
    return [row for of_network in rows.values() for row in of_network]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows as a Markdown table."""
    heads = ["network", "drawn", *COLUMNS.values()]
    lines = ["| " + " | ".join(heads) + " |", "|---|---|" + "---:|" * len(COLUMNS)]
    for row in rows:
        cells = [f"`{row['network']}`", row["drawn"], *(_cell(row[column]) for column in COLUMNS)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(value: float | int | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.1%}"


# -- the command -----------------------------------------------------------------------------


def networks(
    teachers: Sequence[str], students: Sequence[str], weights: Sequence[Sequence[str]], validation: Digits
) -> list[Network]:
    """Return the networks to score.

    Raises:
        UserError: one of them does not exist or cannot be read.
    """
    checks: dict[str, Familiar] = {}

    def check(teacher: str) -> Familiar:
        if teacher not in checks:
            checks[teacher] = Familiar(catalogue.first(catalogue.load(teacher)).model, validation)
        return checks[teacher]

    found = [Network(name, catalogue.load(name).model, check(name)) for name in teachers]
    for text in students:
        run = finding.find(text)
        if not run.models:
            raise UserError(
                f"{run.name} stored no networks; choose a run that trained a student or a teacher."
            )
        for which in run.models:
            model = run.model(which)
            familiar = (
                Familiar(model, validation) if which == "teacher" else check(comparison.teacher_of(run))
            )
            found.append(Network(f"{run.name}: {which}", model, familiar))
    for file, architecture in weights:
        model = registry.load(Path(file), architecture)
        found.append(Network(Path(file).name, model, Familiar(model, validation)))
    return found


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="python -m benchmarks.pen", description="Score networks on drawings given as strokes."
    )
    found.add_argument("drawings", metavar="DRAWINGS", help="a JSON file of drawings, plain or gzipped")
    found.add_argument("--teacher", nargs="+", default=[], metavar="NAME", help="shipped teachers, or runs")
    found.add_argument("--student", nargs="+", default=[], metavar="RUN", help="runs: all of their networks")
    found.add_argument(
        "--weights",
        nargs=2,
        action="append",
        default=[],
        metavar=("FILE", "ARCHITECTURE"),
        help="a safetensors file and the name of its architecture; may be given several times",
    )
    for name, values, text in (
        ("pens", PENS, "other widths of the pen, in pixels of a canvas of 280"),
        ("sizes", SIZES, "factors of the size"),
        ("rotations", ROTATIONS, "degrees, clockwise"),
        ("slants", SLANTS, "how far the top leans to the right, per height"),
    ):
        default = " ".join(f"{value:g}" for value in values)
        found.add_argument(
            f"--{name}", nargs="*", type=float, default=values, help=f"{text} (default: {default})"
        )
    found.add_argument("--json", action="store_true", help="print one JSON object")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Score the networks and print the table; return the exit code."""
    given = parser().parse_args(arguments)
    try:
        found = drawings.read(given.drawings)
        teachers = given.teacher or ([] if given.student or given.weights else [MNIST.teacher])
        if not all(0 < value <= 100 for value in given.pens) or not all(
            0 < size <= 2 for size in given.sizes
        ):
            raise UserError("Pens must be wider than 0 and at most 100 px, sizes more than 0 and at most 2.")
        how = conditions(given.pens, given.sizes, given.rotations, given.slants)
        mnist = load_mnist()
        rows = measure(found, networks(teachers, given.student, given.weights, mnist.validation), how)
    except UserError as error:
        print(f"pen: {error}", file=sys.stderr)
        return 2
    print(json.dumps({"data": mnist.source, "rows": rows}) if given.json else table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
