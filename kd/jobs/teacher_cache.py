"""Teachers, each loaded once."""

from __future__ import annotations

import threading
from typing import Any

from kd.config import kinds
from kd.device import training_device
from kd.teachers import catalogue
from kd.teachers.averaged import MeanTeacher
from kd.teachers.cached import CachedTeacher

MAX_LOADED = 3  # teachers in memory; each holds 3 MB of logits


class TeacherCache:
    """The last few teachers that were loaded. Any thread may ask for one."""

    def __init__(self) -> None:
        self._loaded: dict[str, CachedTeacher | MeanTeacher] = {}  # by name, oldest first
        self._loading = threading.Lock()

    def get(self, name: str) -> CachedTeacher | MeanTeacher:
        """Return the teacher called ``name``; load it if it is not in memory.

        Raises:
            UserError: there is no such teacher, or its file is damaged.
        """
        with self._loading:
            teacher = self._loaded.get(name)
            if teacher is None:
                teacher = catalogue.load(name, training_device())
                if len(self._loaded) >= MAX_LOADED:
                    self._loaded.pop(next(iter(self._loaded)))
                self._loaded[name] = teacher
            return teacher

    def of(self, config: Any) -> CachedTeacher | MeanTeacher | None:
        """Return the teacher that ``config`` names; None if runs of its kind have none.

        Raises:
            UserError: as for get().
        """
        return self.get(config.teacher) if kinds.of(config).has_teacher else None
