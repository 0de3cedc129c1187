"""KINDS: every kind of run, by its name. The one place that lists them."""

from __future__ import annotations

from kd.config.base import Settings
from kd.config.compress import COMPRESS
from kd.config.distil import DISTIL
from kd.config.imported import IMPORTED
from kd.config.kind import Kind
from kd.config.mistake import MISTAKE
from kd.config.search import SEARCH
from kd.config.study import STUDY
from kd.config.sweep import SWEEP
from kd.config.teacher import TEACHER

KINDS: dict[str, Kind] = {
    kind.name: kind for kind in (DISTIL, TEACHER, SWEEP, STUDY, MISTAKE, COMPRESS, SEARCH, IMPORTED)
}
#: The format in which runs and checkpoints are written.
FORMAT = 2
#: The names of kinds in earlier formats: format -> old name -> current name.
_RENAMED = {1: {"sweep": "study", "grid": "sweep"}}


def of(config: Settings) -> Kind:
    """Return the kind of run that ``config`` describes."""
    for kind in KINDS.values():
        if type(config) is kind.config:
            return kind
    raise KeyError(type(config).__name__)


def stored(name: str, format: int) -> Kind:
    """Return the kind that is called ``name`` in files of this format.

    Raises:
        KeyError, TypeError: the format is unknown, or has no kind of that name.
    """
    if format == FORMAT:
        return KINDS[name]
    return KINDS[_RENAMED[format].get(name, name)]
