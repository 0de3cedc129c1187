"""Cache the outputs of a trained teacher, so that each image is computed once."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from kd.data.augmentation import VIEWS
from kd.data.augmentation import view as augmented
from kd.data.digits import Digits, Mnist
from kd.data.sources import IMAGES
from kd.data.task import MNIST, Task
from kd.models import inference, registry
from kd.models.inference import Outputs
from kd.objectives.feature_matching import View
from kd.paths import cache_folder

MAX_FEATURES = 1024  # values per image kept of hidden layers: at most 123 MB in half precision
MAX_DATA = 2  # data sets whose logits stay in memory


def weights_digest(model: nn.Module) -> str:
    """Return a SHA-256 digest, in hexadecimal, of the weights of ``model``."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.cpu().numpy().tobytes())
    return digest.hexdigest()


def logits_digest(logits: Tensor) -> str:
    """Return a SHA-256 digest, in hexadecimal, of a table of logits."""
    return hashlib.sha256(logits.cpu().numpy().tobytes()).hexdigest()


Ask = Callable[[Tensor], Tensor]  # images -> (N, D)


class Key(NamedTuple):
    """The images that a table of logits belongs to: a file of a data set, as it is or augmented."""

    file: str
    data: str
    augmentation: str


class CachedTeacher:
    """A trained model whose logits are computed once per image, on first use.

    Logits are raw, so that they serve every temperature and method. They are looked up by the image's data
    set, file and id, never by its place in a batch. The model stays in eval mode and never changes.

    Args:
        name: the teacher's name, or the id of its run.
        architecture: its name in kd.models.registry.
        model: the trained network; it is set to eval mode, without gradients.
        shipped_logits: files of logits that the same weights computed earlier for all of MNIST: by the
            augmentation of the images, "" for none.
        task: the task that the model was trained for.
    """

    def __init__(
        self,
        name: str,
        architecture: str,
        model: nn.Module,
        shipped_logits: Mapping[str, Path] = MappingProxyType({}),
        task: Task = MNIST,
    ):
        self.name, self.architecture = name, architecture
        self.model = model.eval().requires_grad_(False)
        self._aligned = inference.aligned(self.model)
        self.digest = weights_digest(model)
        self._device = next(model.parameters()).device
        self._task, self._rows, self._shipped = task, task.rows, shipped_logits
        self._tables: dict[Key, tuple[Tensor, Tensor]] = {}  # oldest first
        self._grown: set[Key] = set()  # tables with logits computed since loading
        self._view: tuple[View, str] | None = None  # with the data set's digest

    @property
    def parts(self) -> list[CachedTeacher]:
        """Return the teachers that it consists of, as kd.teachers.averaged has several."""
        return [self]

    def _places(self, digits: Digits) -> Tensor:
        """Return the rows of ``digits`` in a table: by image id, or by view and image id."""
        return digits.ids if digits.views is None else digits.views * self._rows[digits.file] + digits.ids

    def _repeat(self, digits: Digits) -> bool:
        """Return whether the images are known to be those of a file of a data set."""
        return digits.file in self._rows and bool(digits.data)

    def logits(self, digits: Digits) -> Tensor:
        """Return the raw logits of ``digits``, (N, 10), in their order."""
        if not self._repeat(digits):
            return self._compute(digits, self._aligned)
        logits, filled = self._table(digits)
        missing = ~filled[self._places(digits)]
        if missing.any():
            new = digits.take(missing)
            self._learn(new, self._compute(new, self._aligned))
        return logits[self._places(digits)]

    def outputs(self, digits: Digits, view: View) -> Outputs:
        """Return the raw logits of ``digits``, (N, 10), and features, (N, D), for each layer of ``view``.

        Logits and features share one forward pass. Features are kept for training images without
        augmentation, up to MAX_FEATURES values per image, for one view at a time; others are computed each
        time. Measured with mlp-128 and the shipped teacher: an epoch takes 2.0 s of one core with kept
        features and 13.0 s without.
        """
        widths = view.widths(registry.feature_shapes(self.architecture, self._task))

        def ask(inputs: Tensor) -> Tensor:
            said = inference.outputs(self._aligned, inputs)
            return torch.cat([said.logits, *view(said.features)], 1)

        repeat = self._repeat(digits)
        if not repeat or digits.file != "train" or digits.views is not None or sum(widths) > MAX_FEATURES:
            logits, *features = self._compute(digits, ask).split([self._task.classes, *widths], 1)
            if not repeat:
                return Outputs(logits, tuple(features))
            self._learn(digits, logits)
            return Outputs(self.logits(digits), tuple(features))
        if self._view != (view, digits.data):
            self._view = view, digits.data
            self._kept = self._empty(self._rows["train"], sum(widths), torch.float16)
        kept, filled = self._kept
        missing = ~filled[digits.ids]
        if missing.any():
            new = digits.take(missing)
            logits, features = self._compute(new, ask).split([self._task.classes, sum(widths)], 1)
            self._learn(new, logits)
            kept[new.ids] = features.to(kept.dtype)
            filled[new.ids] = True
        return Outputs(self.logits(digits), kept[digits.ids].float().split(widths, 1))

    def _learn(self, digits: Digits, logits: Tensor) -> None:
        """Store new logits in their table. Known ones stay: shipped logits are equal on every machine."""
        table, filled = self._table(digits)
        places = self._places(digits)
        new = ~filled[places]
        if new.any():
            table[places[new]] = logits[new]
            filled[places[new]] = True
            self._grown.add(_key(digits))

    def _compute(self, digits: Digits, ask: Ask) -> Tensor:
        # Matrix products round differently for different numbers of rows. Full chunks make the logits of
        # an image equal bit for bit in any batch; inference.aligned() does the same for odd widths.
        inputs = F.pad(digits.inputs(), (0, 0, 0, 0, 0, 0, 0, -len(digits) % inference.CHUNK))
        # Clone, because a loss cannot use an inference tensor.
        return inference.in_chunks(self.model, ask, inputs)[: len(digits)].clone()

    def _table(self, digits: Digits) -> tuple[Tensor, Tensor]:
        """Return the logits by image id and a mask of the known ones; read the known ones on first use.

        For augmented images rows go by view and image id; the 25 views of jitter take 60 MB. Tables of the
        last MAX_DATA data sets are kept.
        """
        key = _key(digits)
        if key not in self._tables:
            same = [other for other in self._tables if other._replace(data=key.data) == key]
            if len(same) >= MAX_DATA:
                self.keep()
                del self._tables[same[0]]
                self._grown.discard(same[0])
            rows = self._rows[key.file]
            self._tables[key] = self._empty(rows * VIEWS.get(key.augmentation, 1), self._task.classes)
            self._read(key)
        return self._tables[key]

    def _empty(self, rows: int, width: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        numbers = torch.full((rows, width), torch.nan, dtype=dtype, device=self._device)
        return numbers, torch.zeros(rows, dtype=torch.bool, device=self._device)

    def accuracy(self, digits: Digits) -> float:
        """Return the teacher's accuracy on ``digits``, from 0 to 1."""
        return (self.logits(digits).argmax(1) == digits.labels).float().mean().item()

    # -- on disk -------------------------------------------------------------------------------

    def keep(self) -> None:
        """Save logits computed since loading for the next start. Errors are ignored: it is only a cache."""
        for key in [key for key in self._grown if not key.augmentation]:
            path = self._kept_at(key)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                logits = self._tables[key][0].cpu()
                self._write(path, {key.file: logits}, {"logits": logits_digest(logits), **self._origin(key)})
                self._grown.discard(key)
            except (OSError, SafetensorError):
                pass

    def save_logits(self, path: Path, mnist: Mnist) -> None:
        """Write the logits of all images of ``mnist`` to ``path``, atomically, to be shipped.

        Raises:
            OSError: the file cannot be written.
        """
        for digits in (mnist.train, mnist.validation, mnist.test):
            self.logits(digits)
        tables = {digits.file: self._table(digits)[0].cpu() for digits in (mnist.train, mnist.test)}
        self._write(path, tables, {"teacher": self.digest})

    def save_views(self, path: Path, digits: Sequence[Digits], augmentation: str) -> None:
        """Write the logits of all views of images in half precision to ``path``, atomically, to be shipped.

        Args:
            digits: parts of one file.
            augmentation: one with a fixed number of views.

        Raises:
            OSError: the file cannot be written.
        """
        rows = VIEWS[augmentation]
        table = torch.full((rows, self._rows[digits[0].file], self._task.classes), torch.nan)
        for part, number in itertools.product(digits, range(rows)):
            viewed = augmented(part, augmentation, torch.full_like(part.ids, number))
            table[number, part.ids.cpu()] = self._compute(viewed, self._aligned).cpu()
        tables = {digits[0].file: table.flatten(0, 1).half()}
        self._write(path, tables, {"teacher": self.digest})

    def _write(self, path: Path, tables: dict[str, Tensor], about: dict[str, str]) -> None:
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        try:
            save_file(tables, temporary, about)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    def _origin(self, key: Key) -> dict[str, str]:
        """Return all that logits depend on: the weights, the preprocessing and the images."""
        task = self._task
        return {
            "teacher": self.digest,
            "preprocessing": f"{task.image_shape}, mean {task.mean}, std {task.std}",
            "file": key.file,
            "data": key.data,
        }

    def _kept_at(self, key: Key) -> Path:
        name = hashlib.sha256("\n".join(self._origin(key).values()).encode()).hexdigest()
        return cache_folder() / "logits" / f"{name[:32]}.safetensors"

    def _read(self, key: Key) -> None:
        """Fill a table with logits from disk; ignore a damaged file and one of other logits."""
        if key.augmentation in self._shipped and IMAGES.get(key.file) == key.data:
            self._fill(key, self._shipped[key.augmentation], {"teacher": self.digest})
        if not key.augmentation:
            self._fill(key, self._kept_at(key), self._origin(key))

    def _fill(self, key: Key, path: Path, origin: dict[str, str]) -> None:
        try:
            with safe_open(path, "pt") as file:
                about = file.metadata() or {}
                table = file.get_tensor(key.file)
        except (SafetensorError, OSError):
            return
        logits, filled = self._tables[key]
        # The whole file of shipped logits was checked by kd.teachers.catalogue.
        shipped = path in self._shipped.values()
        if table.shape != logits.shape or table.dtype not in (torch.float32, *[torch.float16] * shipped):
            return
        intact = shipped or about.get("logits") == logits_digest(table)
        if intact and origin.items() <= about.items():
            # Logits read first stay: shipped logits are equal on every machine.
            new = (table.isfinite().all(1) & ~filled.cpu()).to(self._device)
            logits[new] = table.to(self._device)[new].float()
            filled |= new


def _key(digits: Digits) -> Key:
    return Key(digits.file, digits.data, digits.augmentation)
