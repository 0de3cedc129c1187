"""What all who only watch a run fetch: one file, written while the run goes on, and gone some time after."""

from __future__ import annotations

import dataclasses
import gzip
import os
import threading
import time

import pytest

from kd import jobs
from kd.config import DistilConfig
from kd.ui import broadcast

RUN = jobs.Snapshot("run", "distil", DistilConfig(), "running", "", 0, False, 1, (), 0, (), {}, False, {}, "full")


class Manager:
    """Has one run, which a test changes."""

    def __init__(self) -> None:
        self.run: jobs.Snapshot | None = RUN

    def snapshot(self, id: str, counts: bool) -> jobs.Snapshot | None:
        assert id == "run" and not counts, "nobody looks"
        return self.run


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(broadcast, "STATIC", tmp_path)
    monkeypatch.setattr(jobs, "TICK", 0.02)
    yield tmp_path
    assert not broadcast._begun, "nothing is written any more"


@pytest.fixture
def manager(folder):
    found = Manager()
    yield found
    found.run = None
    for thread in threading.enumerate():
        if thread.name == "kd-broadcast":
            thread.join(30)


def drawn(snap: jobs.Snapshot) -> bytes:
    return f"{snap.state} {snap.version}".encode()


def until(folder, content: str) -> None:
    end = time.monotonic() + 30
    while gzip.decompress((folder / "live" / "run.gz").read_bytes()).decode() != content:
        assert time.monotonic() < end, content
        time.sleep(0.01)


def test_the_file_is_there_at_once_and_follows_the_run_to_its_end(folder, manager):
    address = broadcast.address(manager, RUN, drawn)
    assert gzip.decompress((folder / address).read_bytes()) == b"running 1"
    manager.run = dataclasses.replace(RUN, version=2)
    until(folder, "running 2")
    manager.run = dataclasses.replace(RUN, version=3, state="done")
    until(folder, "done 3")


def test_it_is_written_once_for_all(folder, manager):
    made = []
    addresses = {broadcast.address(manager, RUN, lambda snap: made.append(1) or drawn(snap)) for _ in range(20)}
    assert len(addresses) == 1 and len(made) == 1


def test_a_run_that_is_forgotten_ends_it(folder, manager):
    broadcast.address(manager, RUN, drawn)
    manager.run = None
    end = time.monotonic() + 30
    while broadcast._begun:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_what_ended_long_ago_is_removed_and_what_may_be_asked_for_stays(folder, manager):
    (folder / "live").mkdir()
    old, new = (folder / "live" / name for name in ("old.gz", "new.gz"))
    for file in (old, new):
        file.write_bytes(b"")
    os.utime(old, (time.time() - broadcast.KEPT - 5,) * 2)
    broadcast.address(manager, RUN, drawn)
    assert new.exists() and not old.exists()


def test_a_folder_that_cannot_be_written_is_told_and_ends_no_page(folder, manager, caplog):
    (folder / "live").write_text("a file where the folder should be")
    assert broadcast.address(manager, RUN, drawn) == "live/run.gz" and "sees it seldom" in caplog.text


def test_files_of_a_growing_run_have_the_same_length():
    """An answer is broken off if the file's length changes after it was told."""
    short, long = broadcast.packed(b"[]"), broadcast.packed(str(list(range(5000))).encode())
    assert len(short) == len(long) and gzip.decompress(short) == b"[]" and gzip.decompress(long) == str(list(range(5000))).encode()
