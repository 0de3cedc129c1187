"""Failures during training: each is reported, loses no saved file, and lets the next job run."""

import contextlib
import datetime
import http.server
import subprocess
import sys
import threading
import time

import pytest
import torch

from kd.config.distil import DistilConfig
from kd.data import sources
from kd.errors import UserError
from kd.models import registry
from kd.store import checkpoints, runs
from kd.training import loop, memory
from tests.jobs import ME, SHORT, pause_after, wait_for
from tests.stage import fuzz, kills

pytestmark = pytest.mark.usefixtures("alone")

# -- kills and bad input: tests/stage holds the long versions ----------------------------------


def test_killed_runs_keep_saved_files_and_resume_exactly():
    found = kills.run(kills=6, seed=2)
    assert found["problems"] == [] and found["kills"] == 6 and found["started"] and found["interrupted"]


def test_fuzzed_input_gives_a_value_or_a_user_error():
    found = fuzz.run(500, seed=1, worst=False)
    assert found["problems"] == [] and found["cases"] == 500 and 100 < found["refused"] < 490


# -- memory ---------------------------------------------------------------------------------------


def test_training_beyond_free_memory_is_refused_at_start(manager, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda device: 50_000_000)
    refused = manager.start(DistilConfig(student="mlp-2048-2048", epochs=1, batch_size=100), ME)
    message = wait_for(manager, refused, "failed").message
    assert message.startswith("This training needs about") and message.endswith(
        "50 MB are free; choose a smaller student or a smaller batch size."
    )
    wait_for(manager, manager.start(SHORT, ME), "done")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
    ids=["Python", "CUDA", "CPU"],
)
def test_run_out_of_memory_is_reported_and_can_be_resumed(manager, monkeypatch, error):
    id = pause_after(manager, SHORT)

    def out(*_):
        raise error

    with monkeypatch.context() as small:
        small.setattr(loop.Training, "_train", out)
        manager.resume(id, ME)
        assert (
            wait_for(manager, id, "interrupted").message
            == f"{memory.OUT_OF_MEMORY} Resume continues from its last checkpoint."
        )
    wait_for(manager, manager.start(SHORT, ME), "done")
    manager.resume(id, ME)
    wait_for(manager, id, "done")


def test_memory_estimate_grows_with_networks_and_batch_size():
    small, wide = registry.build("mlp-30", 0), registry.build("cnn-wide", 0)
    assert (
        memory.needed([small], 100)
        < memory.needed([small, small], 100)
        < memory.needed([wide], 100)
        < memory.needed([wide], 1000)
    )
    # Measured: two such networks took 604 MB at a batch size of 256.
    assert 500e6 < memory.needed([wide, wide], 256) < 900e6 and not wide.eval().training


# -- the clock ------------------------------------------------------------------------------------


def test_runs_stay_in_order_when_the_clock_is_set_back(manager, monkeypatch):
    class Back(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return super().now(tz) - datetime.timedelta(hours=1)

    first = manager.start(SHORT, ME)
    wait_for(manager, first, "done")
    monkeypatch.setattr(runs.datetime, "datetime", Back)
    monkeypatch.setattr(time, "time", lambda: 1.0)
    checkpoints.tidy()
    second = manager.start(SHORT, ME)
    wait_for(manager, second, "done")
    assert [run.id for run in runs.list_runs()[0]] == [second, first] and second > first
    assert manager.snapshot(second, ME).state == "done"


def test_ids_are_ordered_within_a_second():
    ids = [runs.new_id() for _ in range(50)]
    assert ids == sorted(ids) and len(set(ids)) == 50


# -- symlinks out of the folder ------------------------------------------------------------------------


def test_symlinks_out_of_a_run_are_not_read_or_written(manager, home, tmp_path):
    id = manager.start(SHORT, ME)
    wait_for(manager, id, "done")
    secret = tmp_path / "secret"
    secret.write_bytes((home / id / "student.safetensors").read_bytes())
    before, run = secret.read_bytes(), runs.load(id)
    (run.folder / ".config.json.tmp").symlink_to(secret)
    runs.rename(id, "another name", ME)
    for name in ("student.safetensors", "metrics.csv", "config.json"):
        (run.folder / name).unlink()
        (run.folder / name).symlink_to(secret)
    for read in (
        lambda: run.model("student"),
        run.metrics,
        lambda: run.file("config.json"),
        lambda: runs.load(id),
    ):
        with pytest.raises(UserError, match="missing|damaged"):
            read()
    assert secret.read_bytes() == before


# -- the disk -----------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(home):
    """Mount a disk of 300 kB as the run folder; skip the test where that is not permitted."""
    home.mkdir()
    if (
        sys.platform != "linux"
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(home)], capture_output=True
        ).returncode
    ):
        pytest.skip("needs permission to mount a small disk; tests/unit/test_runs.py simulates a full one")
    yield home
    subprocess.run(["umount", "-l", str(home)], check=True)


def test_run_on_a_full_disk_finishes_and_can_be_saved_later(small_disk, manager):
    filler = small_disk / "filler"
    with contextlib.suppress(OSError), open(filler, "wb") as file:
        while True:
            file.write(bytes(4096))
            file.flush()
    id = manager.start(SHORT, ME)
    snap = wait_for(manager, id, "done")
    assert (
        not snap.saved
        and f"The run was not saved because the disk is full: free some space in {small_disk}" in snap.message
    )
    assert {path.name for path in small_disk.iterdir()} <= {"filler", f".{id}.lock"}
    filler.unlink()
    manager.save_again(id, ME)
    assert manager.snapshot(id, ME).saved and runs.load(id).model("student")


# -- the network ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("stalls", [True, False], ids=["stalls", "closes"])
def test_broken_download_stops_with_a_message(tmp_path, monkeypatch, stalls):
    go_on = threading.Event()

    class Half(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            self.wfile.write(bytes(1000))
            self.wfile.flush()
            if stalls:
                go_on.wait(30)

        def log_message(self, *_):
            pass

    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Half)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    script = (
        "import sys, urllib.request\n"
        f"content = urllib.request.urlopen('http://127.0.0.1:{served.server_port}/').read()\n"
        "raise SystemExit(len(content) != 10**6)"
    )
    started = time.monotonic()
    source = sources.Source(tmp_path / "data", lambda folder: [sys.executable, "-c", script], time_limit=3.0)
    try:
        source.wait()
        assert time.monotonic() - started < 25 and source.state == "sample" and not source._thread.is_alive()
        (message,) = source.messages
        assert ("stopped after 3 seconds" if stalls else "could not be downloaded") in message
        assert source._process.poll() is not None, "the download process must have ended"
    finally:
        go_on.set()
        source.close()
        served.shutdown()
        served.server_close()


def test_proxy_that_wants_a_password_is_named(tmp_path, monkeypatch):
    class Proxy(http.server.BaseHTTPRequestHandler):
        def refuse(self):
            self.send_error(407)

        do_CONNECT = do_GET = do_HEAD = refuse

        def log_message(self, *_):
            pass

    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{served.server_port}")
    for name in ("no_proxy", "NO_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    source = sources.Source(tmp_path / "data")
    try:
        source.wait()
        (message,) = source.messages
        assert message.startswith(
            "MNIST could not be downloaded: the proxy wants a name and a password (407)"
        )
    finally:
        source.close()
        served.shutdown()
        served.server_close()
