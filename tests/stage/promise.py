"""A promise next to its measured figure."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Promise:
    """A promise, its aim, the measured figure, and whether it was kept."""

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
        """Return a promise that no problem occurred; the first problem is shown."""
        return cls(
            what,
            f"{len(problems)}" + (f" ({' '.join(problems[0].split())[-300:]})" if problems else ""),
            "none",
            not problems,
        )

    @classmethod
    def alive(cls, process: subprocess.Popen) -> Promise:
        """Return a promise that the server's process has not ended."""
        code = process.poll()
        return cls("the server still answers", f"exit code {code}", "None", code is None)


def tell(promises: Iterable[Promise]) -> int:
    """Print a line for each promise and return the exit code: 1 if one falls short."""
    promises = list(promises)
    for promise in promises:
        state = "PASS" if promise.kept else "FALLS SHORT"
        print(f"{state:11}  {promise.what:58} {promise.found}  (aim: {promise.aim})", flush=True)
    return int(not all(promise.kept for promise in promises))


def tell_problems(found: Mapping[str, Any], most: int = 20) -> int:
    """Print a result as one line of JSON and its first ``problems``; return the exit code."""
    for problem in found["problems"][:most]:
        print(problem, file=sys.stderr)
    print(json.dumps({**found, "problems": len(found["problems"])}))
    return 1 if found["problems"] else 0


def share(values: Sequence[float], percent: float) -> float:
    """Return a percentile by nearest rank; infinite without values, so that no data keeps no promise."""
    return sorted(values)[min(len(values) - 1, int(percent / 100 * len(values)))] if values else float("inf")
