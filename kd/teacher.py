"""Trained teachers, and the cache that computes each of their logits once."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Callable, Mapping

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from kd.store import runs
from kd.models import inference, registry
from kd.config.base import MAX_TEACHERS
from kd.config.teacher import TeacherConfig
from kd.objectives.feature_matching import View
from kd.data.augmentation import SHIFTS
from kd.data.digits import Digits, Mnist
from kd.paths import cache_folder
from kd.errors import UserError
from kd.models.inference import Outputs

WEIGHTS = Path(__file__).parent / "weights"
ROWS = {"train": 60000, "test": 10000}
CURVE = ("epoch", "loss teacher hard", "validation teacher", "whole_validation")  # what is told of how a shipped teacher learned
MAX_FEATURES = 1024  # numbers an image that are kept of hidden layers: at most 123 MB in half precision


def shipped() -> list[str]:
    """The names of the teachers in the repository."""
    return sorted(path.name.removesuffix(".safetensors") for path in WEIGHTS.glob("*.safetensors") if "." not in path.stem)


def weights_digest(model: nn.Module) -> str:
    """Names a model by its weights."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.cpu().numpy().tobytes())
    return digest.hexdigest()


Ask = Callable[[Tensor], Tensor]  # images -> (N, D)


def _places(digits: Digits) -> Tensor:
    """The rows of a table that are theirs: by image id, or by shift and image id."""
    return digits.ids if digits.shifts is None else digits.shifts * ROWS[digits.file] + digits.ids


class CachedTeacher:
    """A trained model whose logits are computed once per image, as they are asked for.

    Logits are raw, so that every temperature and method can use them, and are found
    by the image's id, never by its place in a batch. The model stays in eval mode
    and never changes.

    Args:
        shipped_logits: a file of logits that were computed earlier by the same weights.
    """

    def __init__(self, name: str, architecture: str, model: nn.Module, shipped_logits: Path | None = None):
        self.name, self.architecture = name, architecture
        self.model = model.eval().requires_grad_(False)
        self.digest = weights_digest(model)
        self._device = next(model.parameters()).device
        self._tables = {(file, False): self._empty(rows, registry.CLASSES) for file, rows in ROWS.items()}
        self._view: View | None = None
        for path in (shipped_logits, self._kept_at()):
            if path is not None and path.exists():
                self._read(path)
        self._computed = 0

    def logits(self, digits: Digits) -> Tensor:
        """(N, 10) raw logits of ``digits``, in their order."""
        if digits.file not in ROWS:  # images that will not come again
            return self._compute(digits, self.model)
        logits, filled = self._table(digits.file, digits.shifts is not None)
        missing = ~filled[_places(digits)]
        if missing.any():
            new = digits.take(missing)
            self._learn(new, self._compute(new, self.model))
        return logits[_places(digits)]

    def outputs(self, digits: Digits, view: View) -> Outputs:
        """Raw logits of ``digits``, in their order, with (N, D) for each layer of ``view``; no image passes twice.

        Features are kept for training images as they are, where it is not too much, and for one view at
        a time; computed anew for others. Measured with mlp-128 and the shipped teacher: an
        epoch takes 2.0 s of one core with features that are kept, 13.0 s with computing them.
        """
        widths = view.widths(registry.feature_shapes(self.architecture))

        def ask(inputs: Tensor) -> Tensor:
            said = inference.outputs(self.model, inputs)
            return torch.cat([said.logits, *view(said.features)], 1)

        if digits.file != "train" or digits.shifts is not None or sum(widths) > MAX_FEATURES:
            logits, *features = self._compute(digits, ask).split([registry.CLASSES, *widths], 1)
            if digits.file not in ROWS:
                return Outputs(logits, tuple(features))
            self._learn(digits, logits)
            return Outputs(self.logits(digits), tuple(features))
        if self._view != view:
            self._view, self._kept = view, self._empty(ROWS["train"], sum(widths), torch.float16)
        kept, filled = self._kept
        missing = ~filled[digits.ids]
        if missing.any():
            new = digits.take(missing)
            logits, features = self._compute(new, ask).split([registry.CLASSES, sum(widths)], 1)
            self._learn(new, logits)
            kept[new.ids] = features.to(kept.dtype)
            filled[new.ids] = True
        return Outputs(self.logits(digits), kept[digits.ids].float().split(widths, 1))

    def _learn(self, digits: Digits, logits: Tensor) -> None:
        """Puts logits into their table. What it has stays: shipped logits are the same on every machine."""
        table, filled = self._table(digits.file, digits.shifts is not None)
        places = _places(digits)
        new = ~filled[places]
        table[places[new]] = logits[new]
        filled[places[new]] = True
        self._computed += int(new.sum())

    def _compute(self, digits: Digits, ask: Ask) -> Tensor:
        # Matrix products round differently for other numbers of rows. Chunks that are
        # always full make an image's logits the same to the bit whatever is asked with it
        # (layers whose width is no multiple of 4 excepted: their rows lie unaligned).
        inputs = F.pad(digits.inputs(), (0, 0, 0, 0, 0, 0, 0, -len(digits) % inference.CHUNK))
        # Cloned, since losses may not use an inference tensor.
        return inference.in_chunks(self.model, ask, inputs)[: len(digits)].clone()

    def _table(self, file: str, shifted: bool) -> tuple[Tensor, Tensor]:
        """Logits by image id, or by shift and image id (60 MB, made when first asked for), and which are known."""
        if (file, shifted) not in self._tables:
            self._tables[file, shifted] = self._empty(len(SHIFTS) * ROWS[file], registry.CLASSES)
        return self._tables[file, shifted]

    def _empty(self, rows: int, width: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        numbers = torch.full((rows, width), torch.nan, dtype=dtype, device=self._device)
        return numbers, torch.zeros(rows, dtype=torch.bool, device=self._device)

    def accuracy(self, digits: Digits) -> float:
        """The share of ``digits`` that the teacher classifies right."""
        return (self.logits(digits).argmax(1) == digits.labels).float().mean().item()

    def keep(self) -> None:
        """Saves what was computed since loading, for the next start. A cache: failing is no harm."""
        if not self._computed:
            return
        path = self._kept_at()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.save_logits(path)
            self._computed = 0
        except (OSError, SafetensorError):
            pass

    def save_logits(self, path: Path) -> None:
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        try:
            save_file({file: self._table(file, False)[0].cpu() for file in ROWS}, temporary, {"teacher": self.digest})
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    def _kept_at(self) -> Path:
        return cache_folder() / "logits" / f"{self.digest[:32]}.safetensors"

    def _read(self, path: Path) -> None:
        """Takes over logits from ``path`` unless they are another teacher's or damaged."""
        try:
            with safe_open(path, "pt") as file:
                if (file.metadata() or {}).get("teacher") != self.digest:
                    return
                tables = {name: file.get_tensor(name) for name in ROWS}
        except (SafetensorError, OSError):
            return
        for file, table in tables.items():
            logits, filled = self._table(file, False)
            if table.shape == logits.shape and table.dtype == torch.float32:
                # What was read first stays: shipped logits are the same on every machine.
                new = (table.isfinite().all(1) & ~filled.cpu()).to(self._device)
                logits[new] = table.to(self._device)[new]
                filled |= new


class MeanTeacher:
    """Several teachers as one: each class's logit is the mean of theirs.

    So its probabilities are, at every temperature, the geometric mean of theirs at that
    temperature, which is one of the two averages of Hinton, Vinyals & Dean 2015, section
    2. The other, the arithmetic mean, has no logits that hold at all temperatures, which
    the methods and the cache work with.
    """

    def __init__(self, name: str, teachers: list[CachedTeacher]):
        self.name, self._teachers = name, teachers
        self.architecture = "+".join(teacher.architecture for teacher in teachers)
        self.model = inference.Mean([teacher.model for teacher in teachers]).eval()
        self.digest = hashlib.sha256("".join(teacher.digest for teacher in teachers).encode()).hexdigest()

    def logits(self, digits: Digits) -> Tensor:
        """(N, 10) mean logits of ``digits``, in their order."""
        return torch.stack([teacher.logits(digits) for teacher in self._teachers]).mean(0)

    def accuracy(self, digits: Digits) -> float:
        """The share of ``digits`` that they classify right together."""
        return (self.logits(digits).argmax(1) == digits.labels).float().mean().item()

    def keep(self) -> None:
        for teacher in self._teachers:
            teacher.keep()


def describe(name: str) -> dict:
    """The json beside a shipped teacher: how it was made and what it scores."""
    try:
        about = json.loads((WEIGHTS / f"{name}.json").read_text())
        registry.architecture(about["architecture"])
        return about
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"The description of the teacher {name} is missing or damaged; restore kd/weights/{name}.json.") from None


def ship(name: str, run: runs.Run, mnist: Mnist) -> None:
    """Makes the teacher that a run trained a shipped one: its weights, its logits, how it was made and how it learned.

    Raises:
        UserError: it was not trained on all of MNIST.
    """
    if mnist.source != "full" or run.measures.get("data") != mnist.digest:
        raise UserError("Only a teacher trained on all of MNIST can be shipped; set KD_DATA_DIR to a folder that has it.")
    target = WEIGHTS / f"{name}.safetensors"
    target.write_bytes((run.folder / "teacher.safetensors").read_bytes())
    shipped = CachedTeacher(name, run.architecture, run.model("teacher"))
    validation_errors = _validation_errors(shipped, mnist)
    for digits in (mnist.train, mnist.validation, mnist.test):
        shipped.logits(digits)
    shipped.save_logits(WEIGHTS / f"{name}.logits.safetensors")
    arguments = " ".join(f"--{key.replace('_', '-')} {value}" for key, value in run.config.to_dict().items())
    description = {
        "architecture": run.architecture,
        "command": f"python -m kd teacher {arguments} --ship {name}",
        "config": run.config.to_dict(),
        "seconds": run.measures["seconds"],
        "versions": run.measures["versions"],
        "data_sha256": run.measures["data"],
        "weights_sha256": shipped.digest,
        "train_images": len(mnist.train),
        "validation_errors": validation_errors,
        "validation_images": len(mnist.validation),
        "test_errors": run.measures["models"]["teacher"]["test_errors"],
        "test_images": len(mnist.test),
        "curve": _curve(run),
    }
    _describe(name, description)


def tell_again(name: str, run: runs.Run, mnist: Mnist) -> None:
    """Tells of a shipped teacher how another training by its recipe went. Its own weights stay, and with them whatever was measured of them.

    Raises:
        UserError: another recipe or other data, or no such teacher.
    """
    about = describe(name)
    if TeacherConfig.from_dict(about["config"]) != run.config or run.measures.get("data") != about["data_sha256"]:
        raise UserError(f"This training has another recipe or other data than the shipped teacher {name}, which is made by: {about['command']}")
    again = CachedTeacher(name, run.architecture, run.model("teacher"))
    _describe(name, about | {"curve": _curve(run), "curve_weights_sha256": again.digest, "curve_validation_errors": _validation_errors(again, mnist)})


def _validation_errors(teacher: CachedTeacher, mnist: Mnist) -> int:
    return round((1 - teacher.accuracy(mnist.validation)) * len(mnist.validation))


def _curve(run: runs.Run) -> list[dict[str, float]]:
    return [{key: round(row[key], 6) for key in CURVE} for row in run.metrics() if row["whole_validation"]]


def _describe(name: str, about: Mapping[str, Any]) -> None:
    (WEIGHTS / f"{name}.json").write_text(json.dumps(about, indent=1) + "\n")


def load(name: str, device: torch.device | str = "cpu") -> CachedTeacher | MeanTeacher:
    """A shipped teacher by name or a trained one by its run's id, ready to answer; several, joined by +, as one.

    Raises:
        UserError: no such teacher, or a damaged file.
    """
    if name.count("+") >= MAX_TEACHERS:  # each takes some MB
        raise UserError(f"There can be up to {MAX_TEACHERS} teachers joined by +.")
    if "+" in name:
        return MeanTeacher(name, [load(part, device) for part in name.split("+")])
    if name in shipped():
        architecture = describe(name)["architecture"]
        model = registry.load(WEIGHTS / f"{name}.safetensors", architecture)
        return CachedTeacher(name, architecture, model.to(device), WEIGHTS / f"{name}.logits.safetensors")
    if runs.is_id(name):
        run = runs.load(name)
        if "teacher" not in run.models:
            raise UserError(f"{run.name} is not a teacher; choose a run that trained one.")
        return CachedTeacher(name, run.architecture, run.model("teacher").to(device))
    raise UserError(
        f"There is no teacher called {name[:40]!r}; choose one of {', '.join(shipped())}, or the id of a teacher run."
    )
