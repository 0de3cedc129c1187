"""Runs on disk: config, metrics, weights and measures.

    <home>/<id>/config.json  metrics.csv  measures.json  student.safetensors  control.safetensors

A run is written under a temporary name and then renamed, so it is either complete or absent.
kd/store/checkpoints.py keeps the runs that have not finished.
"""

from __future__ import annotations

import csv
import datetime
import errno
import hashlib
import io
import json
import os
import secrets
import shutil
import threading
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from kd import paths, permissions
from kd.config import kinds
from kd.config.base import Settings, is_id
from kd.config.kind import NAME_LENGTH, Kind
from kd.config.kinds import KINDS
from kd.errors import UserError, hindrance
from kd.models import registry
from kd.paths import home
from kd.store import safe_files, validation

#: The start of the message of a run that was opened from a cell of a sweep.
FROM_SWEEP = "This is a cell of the sweep"
MESSAGE_LENGTH = 500
STATES = ("done", "stopped", "interrupted")
#: The recorded run that ships with the program. It is never changed, and not listed.
RECORDED = paths.RECORDED
_numbering = threading.Lock()
_newest = datetime.datetime.min  # latest time in the ids that this process returned


def new_id() -> str:
    """Return a new id that sorts by time and cannot be guessed.

    Within a process, a later id always sorts later, even if the clock is set back.
    """
    global _newest
    with _numbering:
        _newest = max(datetime.datetime.now().replace(microsecond=0), _newest + datetime.timedelta(seconds=1))
        return f"{_newest:%Y%m%d-%H%M%S}-{secrets.token_hex(8)}"


def owner_digest(token: str | None) -> str | None:
    """Return the digest of an owner's token, which identifies the owner but cannot be used as the token."""
    return hashlib.sha256(token.encode()).hexdigest() if token else None


def clean_name(name: str) -> str:
    """Return the name on one line and without control characters.

    Raises:
        UserError: it is empty or too long.
    """
    text = "".join(
        " " if c.isspace() else c for c in name if c.isspace() or unicodedata.category(c)[0] != "C"
    )
    text = " ".join(text.split())
    if not text:
        raise UserError("A run needs a name of at least one visible character.")
    if len(text) > NAME_LENGTH:
        raise UserError(f"A run's name can have at most {NAME_LENGTH} characters; this one has {len(text)}.")
    return text


@dataclass(frozen=True)
class Run:
    """A stored run. ``measures`` is empty if the run was interrupted."""

    id: str
    kind: str  # one of kd.config.kinds.KINDS
    name: str
    owner: str | None  # digest of the owner's token; None: started from the command line
    created: str  # ISO 8601, with time zone
    state: str  # "done", "stopped" or "interrupted"
    config: Settings
    measures: Mapping[str, Any]
    folder: Path
    message: str = ""  # a sentence to show with it, such as why it ended early; or empty
    pinned: bool = False  # not offered for removal

    @property
    def about(self) -> Kind:
        """The description of its kind."""
        return KINDS[self.kind]

    @property
    def architecture(self) -> str:
        """The student's architecture, or the teacher's if the run trained a teacher."""
        return self.about.architecture(self.config, self.measures)

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the stored networks, such as ("student", "control")."""
        return self.about.models(self.config, self.measures)

    @property
    def brief(self) -> bool:
        """Whether it was stopped before the end of its first epoch, so that it hardly learned anything."""
        steps, images = (self.measures.get(name) for name in ("steps", "train_images"))
        if self.state != "stopped" or not isinstance(steps, int) or not isinstance(images, int):
            return False
        return steps * getattr(self.config, "batch_size", 0) < images

    def file(self, name: str) -> Path:
        """Return the path of one of the run's files.

        Raises:
            UserError: the file is missing, or is a symbolic link.
        """
        path = self.folder / name
        if path.is_symlink() or not path.is_file():
            raise UserError(f"{name} is missing in {self.name}; restore it or choose another run.")
        return path

    def model(self, which: str) -> nn.Module:
        """Return the trained "student", "control" or "teacher", in eval mode."""
        return registry.load(self.file(f"{which}.safetensors"), self.architecture)

    def metrics(self) -> list[dict[str, float]]:
        """Return the rows of metrics.csv.

        Raises:
            UserError: the file is missing or damaged.
        """
        try:
            rows = csv.DictReader(io.StringIO(safe_files.read_text(self.folder / "metrics.csv"), newline=""))
            return validation.rows(
                [{key: float(value) for key, value in row.items() if value != ""} for row in rows],
                self.about.columns,
            )
        except (OSError, ValueError, TypeError, KeyError, AttributeError, csv.Error) as error:
            if why := hindrance(error):
                raise UserError(f"The metrics of {self.name} cannot be read ({why}).") from None
            raise UserError(
                f"The metrics of {self.name} are missing or damaged, so its curves cannot be shown."
            ) from None


def save(
    id: str,
    config: Settings,
    state: str,
    records: Sequence[Mapping[str, float]],
    trained: Mapping[str, nn.Module],
    measures: Mapping[str, Any],
    owner: str | None = None,
    name: str = "",
    message: str = "",
    tensors: Mapping[str, Mapping[str, Tensor]] | None = None,
) -> Run:
    """Store a run completely or, if that fails, not at all.

    Args:
        records: the rows of metrics.csv.
        owner: the digest of the owner's token.
        name: the run's name; by default it is derived from the settings.
        message: a sentence to show with the run, such as why it ended early; or empty.
        tensors: the contents of further safetensors files, by file name without suffix.

    Raises:
        UserError: the name is not valid, or the disk is full or cannot be written to.
    """
    kind = kinds.of(config)
    about = {
        "id": id,
        "format": kinds.FORMAT,
        "kind": kind.name,
        "name": clean_name(name) if name else kind.default_name(config),
        "owner": owner,
        "created": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "state": state,
        "message": message,
        "config": config.to_dict(),
    }
    folder, temporary = home() / id, home() / f".{id}.tmp"
    try:
        shutil.rmtree(temporary, ignore_errors=True)  # left by a process that was killed storing the run
        temporary.mkdir(parents=True)
        for file_name, values in {"config": about, "measures": measures}.items():
            _write_json(temporary / f"{file_name}.json", values)
        with open(temporary / "metrics.csv", "w", newline="") as file:
            columns = list(dict.fromkeys(key for record in records for key in record))
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(records)
        weights = {which: model.state_dict() for which, model in trained.items()} | {
            which: contents for which, contents in (tensors or {}).items() if contents
        }
        for which, contents in weights.items():
            save_file(
                {key: value.cpu().contiguous() for key, value in contents.items()},
                temporary / f"{which}.safetensors",
            )
        for path in temporary.iterdir():
            safe_files.on_disk(path)
        os.rename(temporary, folder)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, (OSError, SafetensorError)):
            raise UserError(cannot_save(error)) from None
        raise
    return load(id)


def check_writable() -> None:
    """Check, before anything trains for it, that runs can be stored.

    Raises:
        UserError: the folder of the runs cannot be written to.
    """
    try:
        safe_files.try_writing(home())
    except OSError as error:
        raise UserError(cannot_save(error, then=" and try again", done="started")) from None


def cannot_save(
    error: Exception, what: str = "The run", then: str = " and save again", done: str = "saved"
) -> str:
    """Return a sentence on why ``what`` could not be written to the disk, and what to do."""
    code = getattr(error, "errno", None)
    if code == errno.ENOSPC or "No space" in str(error):
        return f"{what} was not {done} because the disk is full: free some space in {home()}{then}."
    return (
        f"{what} was not {done} because {home()} cannot be written to: "
        f"change its permissions, or set KD_HOME{',' if then else ''}{then}."
    )


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, allow_nan=False))


def load(id: str) -> Run:
    """Return the stored run with this id.

    Raises:
        UserError: there is no such run, or it is damaged.
    """
    if not is_id(id):
        raise UserError("That is not the id of a run; choose one from the Runs page.")
    folder = home() / id
    if not os.path.lexists(folder):
        folder = RECORDED / id
    if folder.is_symlink() or not folder.is_dir():
        raise UserError(
            "This run is no longer there: it was deleted or never saved. Choose another from the Runs page."
        )
    try:
        about, measures = (safe_files.read_json(folder / f"{name}.json") for name in ("config", "measures"))
        kind = kinds.stored(about["kind"], about.get("format", 1))
        config = kind.config.from_dict(about["config"])
        run = Run(
            id,
            kind.name,
            clean_name(about["name"]),
            about["owner"],
            safe_files.plain(about["created"]),
            about["state"],
            config,
            measures,
            folder,
            safe_files.plain(about.get("message", ""))[:MESSAGE_LENGTH],
            pinned=about.get("pinned") is True,
        )
        if (
            about["id"] != id
            or run.state not in STATES
            or not isinstance(run.owner, str | None)
            or not isinstance(measures, dict)
        ):
            raise ValueError
        validation.check_measures(kind, run.models, run.measures)
        return run
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        if why := hindrance(error):
            raise UserError(f"The run {id} cannot be read: {folder} ({why}).") from None
        raise UserError(
            f"The run {id} is damaged: a file in {folder} is missing or cannot be read. "
            "Restore or delete that folder."
        ) from None


def exists(id: str) -> bool:
    """Return whether there is a stored run with this id, whole or damaged."""
    return is_id(id) and os.path.lexists(home() / id)


def recorded() -> Run:
    """Return the recorded run that ships with the program.

    Raises:
        UserError: it is missing or damaged.
    """
    names = sorted(filter(is_id, os.listdir(RECORDED))) if RECORDED.is_dir() else []
    if not names:
        raise UserError(f"The recorded run is missing in {RECORDED}; install the program again.")
    return load(names[-1])


def list_runs() -> tuple[list[Run], list[str]]:
    """Return all stored runs, newest first, and a sentence for each that cannot be read."""
    stored, problems = [], []
    try:
        names = sorted(os.listdir(home()), reverse=True)
    except OSError:
        return [], []
    for name in filter(is_id, names):
        try:
            stored.append(load(name))
        except UserError as error:
            problems.append(str(error))
    return stored, problems


def _owned(id: str, token: str | None) -> Run:
    """Return the run if the visitor is its owner or the presenter.

    Raises:
        UserError: the visitor may not change it.
    """
    permissions.check(owner_digest(token), "rename, pin or delete runs")
    run = load(id)
    if run.owner is None:
        raise UserError(
            f"{run.name} was started from the command line; manage it in its folder, {run.folder}."
        )
    if run.owner != owner_digest(token) and not permissions.presenter(owner_digest(token)):
        raise UserError(f"{run.name} belongs to somebody else; only they can rename or delete it.")
    return run


def rename(id: str, name: str, token: str | None) -> None:
    """Rename the run. Only its owner and the presenter may.

    Raises:
        UserError: the name is not valid, the run is somebody else's, or the disk cannot be written to.
    """
    _change(_owned(id, token), "renamed", name=clean_name(name))


def pin(id: str, pinned: bool, token: str | None) -> None:
    """Pin or unpin the run: a pinned run is not offered for removal. Only its owner and the presenter may.

    Raises:
        UserError: the run is somebody else's, or the disk cannot be written to.
    """
    _change(_owned(id, token), "pinned", pinned=bool(pinned))


def _change(run: Run, done: str, **values: Any) -> None:
    path = run.folder / "config.json"
    try:
        changed = {**safe_files.read_json(path), **values}
        safe_files.replace(path, json.dumps(changed, indent=1, allow_nan=False))
    except OSError as error:
        raise UserError(cannot_save(error, then=" and try again", done=done)) from None


def delete(id: str, token: str | None) -> None:
    """Delete the run. Only its owner and the presenter may.

    Raises:
        UserError: the run is somebody else's, or the disk cannot be written to.
    """
    remove(_owned(id, token))


def remove(run: Run) -> None:
    """Delete the run, whoever owns it.

    Raises:
        UserError: it is the recorded run, or the disk cannot be written to.
    """
    if run.folder.parent != home():
        raise UserError(f"{run.name} ships with the program and cannot be deleted.")
    try:
        safe_files.remove_folder(run.folder)
    except OSError as error:
        raise UserError(f"{run.name} could not be deleted: {error.strerror or error}.") from None
