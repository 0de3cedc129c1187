"""Names of runs and teachers in lists and sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from kd.errors import UserError
from kd.store import runs
from kd.ui.shell.escape import plain


def distinct(names: Mapping[str, str]) -> dict[str, str]:
    """Return the names of runs by id, with the start time added to names that occur several times.

    A select box distinguishes its options only by their text.
    """
    unique = dict(names)
    for tell in (
        lambda id: f"{id[:4]}-{id[4:6]}-{id[6:8]} {id[9:11]}:{id[11:13]}:{id[13:15]}",
        lambda id: id[-4:],
    ):
        count = Counter(unique.values())
        unique = {id: f"{name}, {tell(id)}" if count[name] > 1 else name for id, name in unique.items()}
    return unique


def of_teacher(name: str) -> str:
    """Return what to call a teacher in a sentence; several teachers are joined by "and".

    A shipped teacher goes by its own name, any other by the name of the run that trained it.
    """
    if "+" in name:
        return " and ".join(map(of_teacher, name.split("+")))
    try:
        return plain(runs.load(name).name if runs.is_id(name) else name)
    except UserError:
        return plain(name)
