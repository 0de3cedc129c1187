"""Read searches: their trials from the rows of a run, their stored results, and a summary in words."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kd import paths
from kd.config.search import SearchConfig

STORED = paths.MEASURED / "search.json"
STATES = ("running", "complete", "pruned")  # of a trial


def read(config: SearchConfig, rows: Sequence[Mapping[str, float]]) -> list[dict[str, Any]]:
    """Return the trials from the rows of a run, as in a result; the last one may be running."""
    by_number: dict[int, dict[str, Any]] = {}
    names = config.methods.split(",")
    for row in rows:
        if row["again"]:
            continue
        params = {
            name.removeprefix("setting "): value for name, value in row.items() if name.startswith("setting ")
        }
        trial = by_number.setdefault(int(row["trial"]), {"value": None})
        trial |= {
            "number": int(row["trial"]),
            "state": STATES[int(row["state"])],
            "epochs": {},
            "params": {
                name: names[int(value)] if name == "method" else value for name, value in params.items()
            },
        }
        if row["whole_validation"] and "validation student" in row:
            trial |= {"value": row["validation student"], "control": row["validation control"]}
    trials = [by_number[number] for number in sorted(by_number)]
    for trial in trials[:-1]:
        if trial["state"] == "running":  # it diverged, so it had no last record
            trial["state"] = "pruned"
    return trials


def finished() -> list[Path]:
    """Return the result files of the finished searches in $KD_HOME, newest first."""
    return sorted(paths.home().glob("searches/*/result.json"), key=os.path.getmtime, reverse=True)


def stored() -> list[dict[str, Any]]:
    """Return the results of the finished searches in $KD_HOME, newest first, or the shipped one if none.

    Damaged files are skipped.
    """
    results = []
    for path in finished() or [STORED]:
        try:
            result = json.loads(path.read_text())
            if result["trials"] and result["best"] and result["models"]:
                results.append(result)
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return results


def best(trials: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the complete trial with the highest validation accuracy; None if none is complete."""
    return max(
        (trial for trial in trials if trial["state"] == "complete"),
        key=lambda trial: trial["value"],
        default=None,
    )


def settings_text(params: Mapping[str, Any]) -> str:
    """Return a trial's settings as text, such as "hinton, temperature 3.9, soft weight 0.5"."""
    return ", ".join(
        f"{name.replace('_', ' ')} {value:.3g}" if isinstance(value, float) else f"{value}"
        for name, value in params.items()
    )


def summary(result: Mapping[str, Any]) -> str:
    """Summarize the result of a search, or of a search that was stopped, in sentences."""
    count = len(result["trials"])
    pruned = sum(trial["state"] != "complete" for trial in result["trials"])
    if "best" not in result:
        return f"None of {count} trials was completed."
    best, scores = result["best"], result.get("models")
    settings = settings_text({name: value for name, value in best.items() if name != "validation_accuracy"})
    accuracy = f"{best['validation_accuracy']:.2%}"
    if not scores:
        return (
            f"The best of {count} trials so far ({pruned} stopped early), by the validation images: "
            f"{settings}. Its validation accuracy is {accuracy}. The test images are read when the search "
            "has ended."
        )
    tuned = len(best) - 1
    same = "; in the sample they are the same images" if result["source"] == "sample" else ""
    return (
        f"The best of {count} trials ({pruned} stopped early), by the validation images: {settings}. "
        f"Its validation accuracy is {accuracy}, which is optimistic, because it was chosen by it. "
        f"On the {result['test_images']:,} test images, read once{same}, it makes "
        f"{scores['student']['test_errors']} errors; its control, with the same settings, "
        f"{scores['control']['test_errors']}. {tuned} settings were tuned for the student, none for that "
        f"control; the best control of as many tries at its learning rate "
        f"({result['tuned_control']['learning_rate']:.3g}) makes {scores['tuned control']['test_errors']}."
    )
