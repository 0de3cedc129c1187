"""Validation of stored runs: whatever pages show as a number must be a finite number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from kd.config.kind import Kind
from kd.models import registry
from kd.store import safe_files

#: The columns that each row of metrics has, in runs of every kind.
COLUMNS = ("step", "epoch", "seconds", "images_per_second", "whole_validation")


def rows(values: Any, columns: Sequence[str] = ()) -> list[dict[str, float]]:
    """Validate rows of metrics that were read from disk, and return them.

    Args:
        columns: the columns that this kind of run has in addition to COLUMNS.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: they are not rows of metrics.
    """
    try:
        checked = [{safe_files.plain(key): float(value) for key, value in row.items()} for row in values]
    except OverflowError:  # an integer of hundreds of digits
        raise ValueError("a number is too large") from None
    for row in checked:
        _numbers(row, *COLUMNS, *columns)
        if not all(map(math.isfinite, row.values())) or row["step"] < 0 or not 0 < row["epoch"] < 1e5:
            raise ValueError("a number is not finite or out of range")
        if any(key.startswith("loss ") and key.count(" ") < 2 for key in row):  # not "loss <learner> <term>"
            raise ValueError("a loss without a learner or a term")
    return checked


def check_measures(kind: Kind, trained: Sequence[str], measures: Mapping[str, Any]) -> None:
    """Check that a run's measures hold what pages show.

    Args:
        trained: the names of the stored networks.

    Raises:
        ValueError, KeyError, TypeError, AttributeError, IndexError: a value is missing or not valid.
    """
    if not measures:  # the run was interrupted
        return
    scores = ("test_accuracy", "test_errors", "agreement")
    _numbers(measures, "seconds", "test_images")
    for scored in measures["models"].values():
        _numbers(scored, *scores)
    if measures["source"] not in ("full", "sample") or not set(trained) <= measures["models"].keys():
        raise ValueError
    if kind.stages:
        registry.architecture(measures["architecture"])
        for row in measures["stages"]:
            _numbers(row, "parameters", "nonzero", "file_bytes", "zipped_bytes", *scores)
            _numbers(dict(enumerate(row["interval"])), 0, 1)
            for latency in row["latency"] or ():
                _numbers(latency, "median", "iqr")
            if not isinstance(row["who"], str) or not isinstance(row["stage"], str):
                raise TypeError


def _numbers(values: Mapping[Any, Any], *keys: Any) -> None:
    """Check that the values of ``keys`` are numbers of a plausible size."""
    for key in keys:
        if (
            isinstance(values[key], bool)
            or not isinstance(values[key], (int, float))
            or not abs(values[key]) < 1e15
        ):
            raise TypeError
