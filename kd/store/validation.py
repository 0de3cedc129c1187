"""Whether what lies on a disk is what a run stores: numbers where numbers are shown, finite and of a size that can be."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from kd.config.kind import Kind
from kd.models import registry
from kd.store import safe_files

#: The columns that each row of metrics has, in runs of every kind.
COLUMNS = ("step", "epoch", "seconds", "images_per_second", "whole_validation")


def rows(given: Any, columns: Sequence[str] = ()) -> list[dict[str, float]]:
    """Rows of metrics, as they come from a disk.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: they are none.
    """
    try:
        found = [{safe_files.plain(key): float(value) for key, value in row.items()} for row in given]
    except OverflowError:  # an integer of hundreds of digits
        raise ValueError("no number that can be") from None
    for row in found:
        _numbers(row, *COLUMNS, *columns)
        if not all(map(math.isfinite, row.values())) or row["step"] < 0 or not 0 < row["epoch"] < 1e5:
            raise ValueError("no number that can be")
        if any(key.startswith("loss ") and key.count(" ") < 2 for key in row):  # a learner and a term
            raise ValueError("no loss of ours")
    return found


def check_measures(kind: Kind, trained: Sequence[str], measures: Mapping[str, Any]) -> None:
    """Sees that what is shown of a run's measures is there.

    Raises:
        ValueError, KeyError, TypeError, AttributeError, IndexError: it is not.
    """
    if not measures:  # of a run that was interrupted
        return
    scores = ("test_accuracy", "test_errors", "agreement")
    _numbers(measures, "seconds", "test_images")
    for who, found in measures["models"].items():
        _numbers(found, *scores)
    if measures["source"] not in ("full", "sample") or not set(trained) <= measures["models"].keys():
        raise ValueError
    if kind.stages:
        registry.architecture(measures["architecture"])
        for row in measures["stages"]:
            _numbers(row, "parameters", "nonzero", "file_bytes", "zipped_bytes", *scores)
            _numbers(dict(enumerate(row["interval"])), 0, 1)
            for took in row["latency"] or ():
                _numbers(took, "median", "iqr")
            if not isinstance(row["who"], str) or not isinstance(row["stage"], str):
                raise TypeError


def _numbers(found: Mapping[Any, Any], *keys: Any) -> None:
    for key in keys:
        if (
            isinstance(found[key], bool)
            or not isinstance(found[key], (int, float))
            or not abs(found[key]) < 1e15
        ):
            raise TypeError
