"""Test MNIST's files, their damage, and the download."""

import hashlib
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest

from kd import paths
from kd.data import sources
from kd.data.sources import FileProblem, Source
from kd.errors import UserError
from tests.helpers import threads, wait_until

# -- MNIST's files ----------------------------------------------------------------------


@pytest.fixture
def small_files(tmp_path, monkeypatch):
    """Return a folder with files like MNIST's but only 20 images; FILES describes them."""
    random, files = np.random.default_rng(0), {}
    folder = tmp_path / "files"
    sources.raw_folder(folder).mkdir(parents=True)
    for name, (magic, shape, _) in sources.FILES.items():
        shape = (20, *shape[1:])
        content = b"".join(number.to_bytes(4, "big") for number in (magic, *shape))
        content += random.integers(0, 256 if len(shape) > 1 else 10, shape, dtype=np.uint8).tobytes()
        (sources.raw_folder(folder) / name).write_bytes(content)
        files[name] = (magic, shape, hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(sources, "FILES", files)
    return folder


def truncate(content):
    return content[:-1]


def lengthen(content):
    return content + b"\0"


def empty(content):
    return b""


def other_magic(content):
    return bytes([content[0], content[1], content[2], content[3] ^ 1]) + content[4:]


def flip(content):
    return content[:-3] + bytes([content[-3] ^ 0x10]) + content[-2:]


DAMAGES = {
    truncate: "incomplete",
    lengthen: "incomplete",
    empty: "incomplete",
    other_magic: "magic number",
    flip: "checksum",
}


def test_read_idx_returns_the_files_array(small_files):
    for name, (_, shape, _) in sources.FILES.items():
        path = sources.raw_folder(small_files) / name
        array = sources.read_idx(path)
        assert array.shape == shape and array.dtype == np.uint8
        assert array.tobytes() == path.read_bytes()[-array.size :]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", sources.FILES)
def test_damaged_file_is_set_aside_and_others_stay(small_files, name, damage):
    raw = sources.raw_folder(small_files)
    path, others = raw / name, sorted(set(sources.FILES) - {name})
    path.write_bytes(damage(path.read_bytes()))
    path.with_name(f"{name}.gz").write_bytes(b"the download it was unpacked from")
    damaged = path.read_bytes()

    with pytest.raises(FileProblem, match=DAMAGES[damage]) as problem:
        sources.read_idx(path)
    assert str(problem.value).startswith(name) and problem.value.path == path

    (message,) = sources.set_aside(small_files)
    assert message.startswith(name) and f"set aside as {name}.damaged" in message
    assert sorted(file.name for file in raw.iterdir()) == sorted([*others, f"{name}.damaged"])
    assert (raw / f"{name}.damaged").read_bytes() == damaged
    assert sources.set_aside(small_files) == []


def test_missing_file_is_named(small_files):
    path = sources.raw_folder(small_files) / "t10k-labels-idx1-ubyte"
    path.unlink()
    with pytest.raises(FileProblem, match="t10k-labels-idx1-ubyte cannot be read"):
        sources.read_idx(path)
    with pytest.raises(UserError, match="train-images-idx3-ubyte cannot be read"):
        sources.load_full(small_files / "nowhere")


def test_file_that_cannot_be_set_aside_is_named(small_files, monkeypatch):
    path = sources.raw_folder(small_files) / "train-labels-idx1-ubyte"
    path.write_bytes(b"")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "replace", refuse)
    (message,) = sources.set_aside(small_files)
    assert f"Delete {path} yourself" in message


# -- the source -----------------------------------------------------------------


def python(script):
    """Return a command that runs ``script`` instead of a download."""
    return lambda folder: [sys.executable, "-c", script, str(folder)]


HANG = python("import time; time.sleep(600)")
FAIL = python("raise SystemExit(1)")
#: Stands for a successful download: see the fixture ``arriving``.
ARRIVE = python("import pathlib, sys; (pathlib.Path(sys.argv[1]) / 'arrived').touch()")


@pytest.fixture(autouse=True)
def ready_sample(monkeypatch, sample):
    """Load the sample once only, to save time."""
    monkeypatch.setattr(sources, "load_sample", lambda: sample)


@pytest.fixture
def arriving(monkeypatch, mnist):
    """Treat the folder as holding all of MNIST once it holds a file called "arrived"."""

    def load(folder):
        if not (folder / "arrived").exists():
            raise FileProblem(folder / "train-images-idx3-ubyte", "is missing.")
        return replace(mnist, source="full")

    monkeypatch.setattr(sources, "load_full", load)


@pytest.fixture
def source(tmp_path):
    """Return a function that creates sources; close them at the end."""
    created = []

    def make(command, time_limit=60.0, folder=None):
        created.append(Source(folder or tmp_path / "mnist", command, time_limit))
        return created[-1]

    yield make
    for source in created:
        source.close()
    assert not threads("mnist-download")


def test_sample_is_available_while_the_download_runs(source):
    waiting = source(HANG)
    assert waiting.state == "downloading" and waiting.messages == []
    assert waiting.mnist().source == "sample"
    assert waiting.progress() == 0


def test_hanging_download_is_killed_after_the_time_limit(source):
    hanging = source(HANG, time_limit=1)
    assert hanging.wait(60).source == "sample"
    assert hanging.state == "sample" and hanging.messages == [
        "The MNIST download was stopped after 1 seconds without finishing."
    ]
    assert hanging._process.poll() is not None


def test_failed_download_falls_back_to_the_sample(source):
    failing = source(FAIL)
    assert failing.wait(60).source == "sample"
    assert failing.state == "sample" and failing.messages == [
        "MNIST could not be downloaded: there seems to be no network."
    ]


def test_successful_download_gives_the_full_set(source, arriving):
    arrived = source(ARRIVE)
    assert arrived.wait(60).source == "full"
    assert arrived.state == "full" and arrived.messages == []
    assert arrived.mnist() is arrived.mnist()


def test_existing_files_need_no_download(source, arriving, tmp_path):
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "arrived").touch()
    there = source(HANG)
    assert there.state == "full" and there.mnist().source == "full"
    there.retry()
    assert there.state == "full" and not threads("mnist-download")


def test_real_files_are_loaded_after_a_download(source, full_mnist, tmp_path):
    script = "import shutil, sys; shutil.copytree(sys.argv[1], sys.argv[2], dirs_exist_ok=True)"
    copied = source(lambda folder: [sys.executable, "-c", script, str(paths.data_folder()), str(folder)])
    found = copied.wait(120)
    assert copied.state == "full" and found.digest == full_mnist.digest


def test_download_of_a_wrong_file_is_reported(source):
    write = "(pathlib.Path(sys.argv[1]) / 'MNIST/raw/train-images-idx3-ubyte').write_text('?')"
    odd = source(python(f"import pathlib, sys; {write}"))
    odd.wait(60)
    assert odd.state == "sample"
    assert odd.messages[0].startswith(
        "The downloaded MNIST is unusable: train-images-idx3-ubyte is incomplete"
    )


def test_retry_downloads_again_and_clears_messages(source, arriving):
    commands = [FAIL, ARRIVE]
    retried = source(lambda folder: commands.pop(0)(folder))
    retried.wait(60)
    assert retried.state == "sample" and retried.messages
    retried.retry()
    assert retried.wait(60).source == "full" and retried.state == "full" and retried.messages == []


def test_retry_starts_no_second_download(source):
    calls = []

    def count(folder):
        calls.append(folder)
        return HANG(folder)

    waiting = source(count)
    wait_until(lambda: calls)
    waiting.retry()
    assert len(threads("mnist-download")) == 1 and len(calls) == 1


def test_damaged_files_are_named_and_the_sample_is_used(source, small_files):
    path = sources.raw_folder(small_files) / "train-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:5])
    mended = source(FAIL, folder=small_files)
    assert mended.wait(60).source == "sample"
    assert path.with_name(path.name + ".damaged").exists() and not path.exists()
    assert "train-labels-idx1-ubyte" in mended.messages[0] and len(mended.messages) == 2


def test_folder_that_cannot_be_created_is_named(source, tmp_path):
    (tmp_path / "file").touch()
    refused = source(ARRIVE, folder=tmp_path / "file" / "mnist")
    assert refused.wait(60).source == "sample" and refused.state == "sample"
    assert refused.messages == [
        f"MNIST could not be saved in {tmp_path / 'file' / 'mnist'}: Not a directory."
    ]


def test_read_only_folder_is_not_reported_as_no_network(source, tmp_path, monkeypatch):
    def refuse(**_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(sources.tempfile, "TemporaryFile", refuse)
    refused = source(FAIL)
    refused.wait(60)
    assert refused.messages == [f"MNIST could not be saved in {tmp_path / 'mnist'}: Read-only file system."]


def test_close_stops_the_download_without_messages(source):
    closed = source(HANG)
    wait_until(lambda: closed._process)
    closed.close()
    assert closed._process.poll() is not None and not threads("mnist-download")
    assert closed.messages == [] and closed.mnist().source == "sample"
    closed.retry()
    assert not threads("mnist-download"), "a closed source starts nothing"


def test_close_before_the_process_starts_still_kills_it(source):
    asked, go_on = threading.Event(), threading.Event()

    def late(folder):
        asked.set()
        go_on.wait(60)
        return HANG(folder)

    closed = source(late)
    asked.wait(60)
    closer = threading.Thread(target=closed.close)
    closer.start()
    wait_until(lambda: closed._closed)
    go_on.set()
    closer.join(60)
    wait_until(lambda: closed._process and closed._process.poll() is not None, "the process is ended")


def test_progress_is_the_share_of_bytes_that_arrived(source, tmp_path):
    running = source(HANG)
    raw = sources.raw_folder(tmp_path / "mnist")
    wait_until(raw.exists)
    (raw / "t10k-images-idx3-ubyte.gz").write_bytes(bytes(1648877))
    assert running.progress() == pytest.approx(1648877 / sources.DOWNLOAD_BYTES)
    (raw / "train-images-idx3-ubyte.gz").write_bytes(bytes(20_000_000))
    assert running.progress() == 1
