"""Checkpoints of unfinished runs, from which a run resumes as if it had never stopped.

    <home>/<id>.checkpoint   .<id>.lock

A checkpoint is replaced atomically. The process that trains a run holds its lock, which the
operating system releases however the process ends, so a checkpoint whose lock is free is an
interrupted run. When a run is stored, both files are deleted.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from kd import paths, permissions
from kd.config import kinds
from kd.config.base import Settings
from kd.config.kind import Kind
from kd.errors import UserError, hindrance
from kd.store import runs, safe_files, validation
from kd.training.loop import Record

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

EVERY = 10.0  # minimum number of seconds between two checkpoints of a run
#: The formats from which a run resumes to exactly the same weights. Only the newest is written.
READABLE = (1, kinds.FORMAT)
ABANDONED = 3600.0  # seconds after which a temporary file counts as left over; writing takes a few
ELSEWHERE = (
    "This run is being trained by another process that uses the same folder: a server or the command line."
)
_TEMPORARY = re.compile(r"\.([0-9a-f-]+)\.(checkpoint\.tmp|tmp|deleted)")
_SAFETENSORS = re.compile(r"\.tmp\w{6}")  # temporary files of safetensors itself


@dataclass(frozen=True)
class Checkpoint:
    """An unfinished run at its last checkpoint."""

    id: str
    config: Settings  # its schedule holds the changes that were made during training
    rows: list[dict[str, float]]  # of metrics.csv so far
    data: str  # digest of the data
    teacher: str | None  # digest of the teacher's weights
    owner: str | None  # digest of the owner's token; None: started from the command line
    saved: str  # ISO 8601, with time zone
    state: Mapping[str, Tensor]  # of the training; empty if it was not read

    @property
    def kind(self) -> str:
        return self.about.name

    @property
    def about(self) -> Kind:
        """The description of the kind of run."""
        return kinds.of(self.config)

    def check(self, data: str, teacher: str | None) -> None:
        """Check that data and teacher match the checkpoint's digests.

        Raises:
            UserError: they do not match. The checkpoint is kept.
        """
        if self.data != data:
            raise UserError(
                "This run was started with different data. Set KD_DATA_DIR to the folder used then."
            )
        if self.teacher != teacher:
            raise UserError(
                "The weights of this run's teacher have changed since the run was started. "
                "Restore them, or start a new run."
            )


class Resumable(Protocol):
    """The part of kd.experiments.base.Experiment that a checkpoint needs."""

    @property
    def mnist(self) -> Any: ...
    @property
    def reference(self) -> Any: ...
    @property
    def training(self) -> Any: ...


class Keeper:
    """Writes the checkpoints of one run and holds its lock, so that no other process can resume it.

    Args:
        owner: the digest of the owner's token.
    """

    def __init__(self, id: str, owner: str | None = None):
        self._id, self._owner = id, owner
        self._lock: BinaryIO | None = None
        self._tried = time.monotonic()
        self._took = 0.0  # seconds to write the last checkpoint

    def due(self, record: Record) -> bool:
        """Return whether a checkpoint is due: after each epoch but the last, if EVERY seconds have passed."""
        return (
            record.whole_validation and record.step < record.steps and time.monotonic() - self._tried >= EVERY
        )

    @property
    def cheap(self) -> bool:
        """Whether writing another checkpoint now would take at most a tenth of the time.

        The checkpoints of a sweep grow with the number of its networks.
        """
        return time.monotonic() - self._tried >= 9 * self._took

    @property
    def kept(self) -> bool:
        """Whether there is a checkpoint and this keeper holds its lock."""
        return self._lock is not None and os.path.exists(_path(self._id))

    def claim(self) -> None:
        """Take the lock, to resume the run.

        Raises:
            UserError: another process trains the run, or the folder cannot be written to.
        """
        try:
            self._lock = self._lock or _locked(_lock_path(self._id))
        except OSError as error:
            raise UserError(runs.cannot_save(error, "The lock of the run", " and try again")) from None
        if self._lock is None:
            raise UserError(ELSEWHERE)

    def keep(self, experiment: Resumable, config: Settings, rows: Sequence[Mapping[str, float]]) -> str:
        """Write a checkpoint of the current state of ``experiment``. Call it between two records.

        Returns:
            An empty string, or a message if it could not be written. Training can continue in both cases.
        """
        about = {
            "format": kinds.FORMAT,
            "kind": kinds.of(config).name,
            "config": config.to_dict(),
            "rows": list(rows),
            "data": experiment.mnist.digest,
            "teacher": experiment.reference.digest if experiment.reference else None,
            "owner": self._owner,
            "saved": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        }
        path, began = _path(self._id), time.monotonic()
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = self._lock or _locked(_lock_path(self._id))
            if self._lock is None:
                return ELSEWHERE
            state = {key: value.cpu().contiguous() for key, value in experiment.training.state().items()}
            temporary.unlink(missing_ok=True)  # a symbolic link would be followed
            save_file(state, temporary, {"about": json.dumps(about)})
            safe_files.on_disk(temporary)
            os.replace(temporary, path)
        except (OSError, SafetensorError) as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            return runs.cannot_save(error, "A checkpoint", "")
        finally:
            self._tried = time.monotonic()
            self._took = self._tried - began
        return ""

    def leave(self, ended: bool) -> None:
        """Release the lock, and delete the checkpoint if the run has ended. Further calls do nothing."""
        if self._lock is None:
            return
        with contextlib.suppress(OSError):  # tidy() deletes the leftovers at the next start
            if ended:
                _path(self._id).unlink(missing_ok=True)
            _lock_path(self._id).unlink(missing_ok=True)
        self._lock.close()
        self._lock = None


def load(id: str, state: bool = True) -> Checkpoint:
    """Return the checkpoint of the unfinished run with this id.

    Args:
        state: whether to read the state of the training too.

    Raises:
        UserError: there is none, it is damaged, or another version of the program wrote it.
    """
    if not runs.is_id(id):
        raise UserError("That is not the id of a run; ids look like 20260131-120000-0123456789abcdef.")
    path = _path(id)
    if not exists(id):
        raise UserError(
            f"There is no unfinished run {id} in {paths.home()}: "
            "it has finished, or was stopped before its first checkpoint."
        )
    try:
        with open(path, "rb"), safe_open(path, "pt") as file:  # safetensors hides the reason
            about = safe_files.parsed((file.metadata() or {})["about"])
            tensors = {key: file.get_tensor(key) for key in file.keys()} if state else {}
        if about.get("format") not in READABLE:
            raise UserError("Another format.")
        kind = kinds.stored(about["kind"], about["format"])
        rows = validation.rows(about["rows"], kind.columns)
        if not rows or not isinstance(about["owner"], str | None):
            raise ValueError
        config = kind.config.from_dict(about["config"])
        return Checkpoint(
            id,
            config,
            rows,
            about["data"],
            about["teacher"],
            about["owner"],
            safe_files.plain(about["saved"]),
            tensors,
        )
    except UserError:  # also raised by the config for a setting that this version does not know
        raise UserError(
            f"The checkpoint {path} was written by another version of the program. "
            "Resume it with that version, or start a new run."
        ) from None
    except (
        SafetensorError,
        OSError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
        RuntimeError,
    ) as error:
        if why := hindrance(error):
            raise UserError(f"The checkpoint {path} cannot be read ({why}).") from None
        raise UserError(
            f"The checkpoint {path} is damaged and cannot be resumed. Delete it and start a new run."
        ) from None


def exists(id: str) -> bool:
    """Return whether the run is unfinished. A stored run is finished, even if a crash left its checkpoint."""
    path = _path(id)
    return runs.is_id(id) and path.is_file() and not path.is_symlink() and not (paths.home() / id).exists()


def in_training(id: str) -> bool:
    """Return whether a process, this one or another, is training the run."""
    path = _lock_path(id)
    if not path.exists():
        return False
    try:
        lock = _locked(path, look=True)
    except OSError:
        return False
    if lock is not None:
        lock.close()
    return lock is None


def list_interrupted() -> tuple[list[Checkpoint], list[str]]:
    """Return the interrupted runs, newest first, and a sentence for each that cannot be read."""
    interrupted, problems = [], []
    try:
        names = sorted(os.listdir(paths.home()), reverse=True)
    except OSError:
        return [], []
    for id in [name.removesuffix(".checkpoint") for name in names if name.endswith(".checkpoint")]:
        if not exists(id) or in_training(id):
            continue
        try:
            interrupted.append(load(id, state=False))
        except UserError as error:
            problems.append(str(error))
    return interrupted, problems


def owned(id: str, token: str | None) -> Checkpoint:
    """Return the checkpoint, without the state of the training, if the token is its owner's.

    Raises:
        UserError: as for load(), or the run is somebody else's.
    """
    permissions.check(runs.owner_digest(token), "resume or discard runs")
    kept = load(id, state=False)
    if kept.owner is None:
        raise UserError(
            "This run was started from the command line; "
            f"resume it with python -m kd {kept.kind} --resume {id}"
        )
    if kept.owner != runs.owner_digest(token):
        raise UserError("Only the person who started this run can resume or discard it.")
    return kept


def discard(id: str, token: str | None) -> None:
    """Delete the checkpoint. Only its owner may.

    Raises:
        UserError: it is somebody else's or in training, or the disk cannot be written to.
    """
    owned(id, token)
    keeper = Keeper(id)
    keeper.claim()
    keeper.leave(ended=True)
    if _path(id).exists():
        raise UserError(f"The checkpoint could not be deleted: {paths.home()} cannot be written to.")


def tidy() -> None:
    """Delete the leftovers of killed processes, but nothing that a running process may still need."""
    with contextlib.suppress(OSError):
        for path in list(paths.home().iterdir()):
            with contextlib.suppress(OSError):
                _tidy(path)


def _tidy(path: Path) -> None:
    temporary = _TEMPORARY.fullmatch(path.name)
    if (
        temporary and runs.is_id(temporary[1]) or _SAFETENSORS.fullmatch(path.name)
    ) and time.time() - path.lstat().st_mtime > ABANDONED:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    id = path.name.removesuffix(".checkpoint").removeprefix(".").removesuffix(".lock")
    if runs.is_id(id) and not exists(id) and path in (_path(id), _lock_path(id)):
        with contextlib.suppress(UserError):
            keeper = Keeper(id)
            keeper.claim()
            keeper.leave(ended=True)


def _path(id: str) -> Path:
    return paths.home() / f"{id}.checkpoint"


def _lock_path(id: str) -> Path:
    return paths.home() / f".{id}.lock"


def _locked(path: Path, look: bool = False) -> BinaryIO | None:
    """Return the file at ``path``, created if needed and locked until it is closed; None if another holds it.

    Args:
        look: only check whether it is free; any number of processes may check at once.
    """
    for attempt in range(1 if look else 5):
        if attempt:
            time.sleep(0.02)  # another process may only be checking
        file = os.fdopen(
            os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0), 0o666), "ab"
        )
        try:
            if sys.platform == "win32":
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(file, (fcntl.LOCK_SH if look else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            # The files differ if the previous holder has just deleted the path.
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                return file
        except (BlockingIOError, PermissionError, FileNotFoundError):
            pass
        except OSError:
            file.close()
            raise
        file.close()
    return None
