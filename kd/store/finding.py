"""Find a stored run by what a person types: its id, its name, or the beginning of its id."""

from __future__ import annotations

import os

from kd import paths
from kd.config.base import is_id
from kd.errors import UserError
from kd.store import checkpoints, runs

LISTED = 5  # candidates named in an error message


def find(text: str) -> runs.Run:
    """Return the stored run with this id or name, or whose id begins like this.

    Raises:
        UserError: there is none, there are several, or it is damaged or unfinished. The message lists
            candidates.
    """
    if is_id(text):
        _check_finished(text)
        return runs.load(text)
    stored, problems = runs.list_runs()
    found = [run for run in stored if text == run.name or (text and run.id.startswith(text))]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(
            f"{len(found)} runs have the name, or an id that begins with, {text[:60]!r}: {_listed(found)}. "
            "Give enough of an id to tell them apart."
        )
    for id in _unfinished():
        if text and id.startswith(text):
            _check_finished(id)
    unread = f" {len(problems)} cannot be read." if problems else ""
    if not stored:
        raise UserError(f"No run is stored in {paths.home()}.{unread}")
    raise UserError(
        f"No run has the name {text[:60]!r}, or an id that begins like this. "
        f"{'The newest are' if len(stored) > 1 else 'There is'} {_listed(stored)}.{unread}"
    )


def _check_finished(id: str) -> None:
    """Raise a UserError if the run is in training or interrupted."""
    if not checkpoints.exists(id):
        return
    if checkpoints.in_training(id):
        raise UserError(f"{id} is still in training; wait until it is stored.")
    kept = checkpoints.load(id, state=False)
    where = f"python -m kd {kept.kind} --resume {id}" if kept.owner is None else "the Runs page of the app"
    raise UserError(f"{id} was interrupted and is not finished; resume it with {where}.")


def _unfinished() -> list[str]:
    try:
        names = sorted(os.listdir(paths.home()), reverse=True)
    except OSError:
        return []
    ids = [name.removesuffix(".checkpoint") for name in names if name.endswith(".checkpoint")]
    return [id for id in ids if checkpoints.exists(id)]


def _listed(found: list[runs.Run]) -> str:
    more = f" and {len(found) - LISTED} more" if len(found) > LISTED else ""
    return ", ".join(f"{run.id} ({run.name})" for run in found[:LISTED]) + more
