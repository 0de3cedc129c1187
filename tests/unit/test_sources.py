"""Test where MNIST comes from: files, the download, or the sample."""

import sys
import threading
from dataclasses import replace

import pytest

from kd import paths
from kd.data import download, sources
from kd.data.sources import FileProblem, Source
from tests.helpers import threads, wait_until

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
        "MNIST could not be downloaded: the program that downloads it ended with status 1."
    ]


def test_successful_download_gives_the_full_set(source, arriving):
    arrived = source(ARRIVE)
    assert arrived.wait(60).source == "full"
    assert arrived.state == "full" and arrived.messages == []
    assert arrived.mnist() is arrived.mnist()


def test_download_that_fails_reports_its_own_reason(source):
    refused = (
        "urllib.error.URLError: <urlopen error Tunnel connection failed: 407 Proxy Authentication Required>"
    )
    failing = source(python(f"import sys; sys.exit({refused!r})"))
    failing.wait(60)
    assert failing.messages[0].startswith(
        "MNIST could not be downloaded: the proxy wants a name and a password (407)"
    )


def test_download_with_much_output_does_not_hang(source, arriving):
    talkative = source(
        python(
            "import pathlib, sys; sys.stderr.write('x' * 10**6); "
            "(pathlib.Path(sys.argv[1]) / 'arrived').touch()"
        )
    )
    assert talkative.wait(60).source == "full"


def test_another_data_set_stays_and_no_download_starts(source, small_files, other_data_set):
    before = {path.name: path.read_bytes() for path in sources.raw_folder(small_files).iterdir()}
    blocked = source(ARRIVE, folder=small_files)
    assert blocked.wait(60).source == "sample" and blocked.state == "sample" and blocked.blocked
    assert not (small_files / "arrived").exists(), "a download would write over the files"
    assert "train-images-idx3-ubyte is intact but not MNIST" in blocked.messages[0]
    assert "The same holds for 3 more." in blocked.messages
    after = {path.name: path.read_bytes() for path in sources.raw_folder(small_files).iterdir()}
    assert after == before
    blocked.retry()
    assert blocked.state == "sample" and not threads("mnist-download")


def test_unblocked_folder_is_downloaded_again(source, small_files, other_data_set, monkeypatch, mnist):
    unblocked = source(ARRIVE, folder=small_files)
    for path in sources.raw_folder(small_files).iterdir():
        path.unlink()
    monkeypatch.setattr(sources, "load_full", lambda folder: replace(mnist, source="full"))
    unblocked.retry()
    assert unblocked.wait(60).source == "full" and not unblocked.blocked and unblocked.messages == []


def test_files_under_other_names_are_named_with_the_failure(source, tmp_path):
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "train-images.idx3-ubyte").touch()
    failing = source(FAIL)
    failing.wait(60)
    assert failing.blocked and failing.messages[0] == (
        "train-images.idx3-ubyte was found where MNIST/raw/train-images-idx3-ubyte is expected: "
        "move or rename it."
    )


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
    assert running.progress() == pytest.approx(1648877 / download.BYTES)
    (raw / "train-images-idx3-ubyte.gz").write_bytes(bytes(20_000_000))
    assert running.progress() == 1
