"""A promise beside its measured figure."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Promise:
    """What was promised, what was found, and whether that is it."""

    what: str
    found: str
    aim: str
    kept: bool

    @classmethod
    def below(cls, what: str, value: float, limit: float, unit: str = "") -> Promise:
        return cls(what, f"{value:.3g}{unit}", f"below {limit:g}{unit}", value < limit)

    @classmethod
    def least(cls, what: str, value: float, limit: float, unit: str = "") -> Promise:
        return cls(what, f"{value:.3g}{unit}", f"at least {limit:g}{unit}", value >= limit)

    @classmethod
    def none(cls, what: str, problems: Sequence[str]) -> Promise:
        """Nothing of the kind happened; what did is shown, one line of the first."""
        return cls(
            what,
            f"{len(problems)}" + (f" ({' '.join(problems[0].split())[-300:]})" if problems else ""),
            "none",
            not problems,
        )


def tell(promises: Iterable[Promise]) -> int:
    """Prints a line for each and returns the exit code: 1 where one falls short."""
    promises = list(promises)
    for promise in promises:
        print(
            f"{'PASS' if promise.kept else 'FALLS SHORT':11}  {promise.what:58} {promise.found}  (aim: {promise.aim})",
            flush=True,
        )
    return int(not all(promise.kept for promise in promises))


def tell_problems(found: Mapping[str, Any], most: int = 20) -> int:
    """Prints what a long trial found as one line of JSON, and the first of its ``problems`` beside it; returns the exit code."""
    for problem in found["problems"][:most]:
        print(problem, file=sys.stderr)
    print(json.dumps({**found, "problems": len(found["problems"])}))
    return 1 if found["problems"] else 0


def share(values: Sequence[float], percent: float) -> float:
    """A percentile by the nearest rank; infinite where there is no value, so that nothing measured keeps no promise."""
    return sorted(values)[min(len(values) - 1, int(percent / 100 * len(values)))] if values else float("inf")
