"""Average the losses of records that cover few batches with those before them."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Mapping, Sequence

Rows = Sequence[Mapping[str, float]]


def averaged(
    rows: Rows, prefix: str, batches: float | None = None, breaks: Sequence[float] = ()
) -> list[Mapping[str, float]]:
    """Return the rows; columns that begin with ``prefix`` become means over a comparable number of batches.

    A record's means cover the batches since the record before: hundreds in a run, a single one after a
    single step, whose loss may be far from the others'. Where a record covers few, its means are taken
    together with those of the records before it, weighted by their batches.

    Args:
        rows: the run's metrics; unchanged if they lack steps.
        prefix: the beginning of the columns' names.
        batches: how many batches each mean is to cover; by default about as many as most batches'
            records do, and records of at least half as many stay as they are.
        breaks: steps after which a setting changed; no mean covers batches before and after one.
    """
    if not rows or not all("step" in row for row in rows):
        return list(rows)
    steps = [0.0, *(row["step"] for row in rows)]
    covered = [max(0.0, after - before) for before, after in itertools.pairwise(steps)]
    wanted = _typical(covered) if batches is None else batches
    enough = wanted / 2 if batches is None else wanted
    starts = sorted(breaks)
    found: list[Mapping[str, float]] = []
    for i, row in enumerate(rows):
        if covered[i] >= enough:
            found.append(row)
            continue
        broken = bisect.bisect_right(starts, steps[i + 1] - 1)  # breaks before this record's last batch
        start = starts[broken - 1] if broken else 0.0
        first = i
        while first and steps[i + 1] - steps[first] < wanted and steps[first - 1] >= start:
            first -= 1
        found.append(
            row if first == i else {**row, **_means(rows[first : i + 1], covered[first : i + 1], prefix)}
        )
    return found


def _typical(covered: Sequence[float]) -> float:
    """Return how many batches the record of a typical batch covers: the median over batches, not records."""
    half, total = sum(covered) / 2, 0.0
    for count in sorted(covered):
        total += count
        if total >= half:
            return count
    return 0.0


def _means(rows: Rows, weights: Sequence[float], prefix: str) -> dict[str, float]:
    """Return the weighted means of the last row's columns over all rows that have them."""
    means = {}
    for key in rows[-1]:
        if key.startswith(prefix):
            known = [(row[key], weight) for row, weight in zip(rows, weights, strict=True) if key in row]
            total = sum(weight for _, weight in known)
            means[key] = sum(value * weight for value, weight in known) / total if total else rows[-1][key]
    return means
