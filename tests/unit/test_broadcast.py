"""What all who only watch a run fetch: one file in memory, drawn while the run goes on, and gone some time after."""

from __future__ import annotations

import dataclasses
import gzip
import threading
import time

import pytest
from streamlit import runtime
from streamlit.runtime.media_file_manager import MediaFileManager
from streamlit.runtime.memory_media_file_storage import MemoryMediaFileStorage

from kd.config.distil import DistilConfig
from kd.jobs.manager import Snapshot
from kd.ui.charts import broadcast
from tests.helpers import wait_until

RUN = Snapshot("run", "distil", DistilConfig(), "running", "", 0, False, 1, (), 0, (), {}, False, {}, "full")


class Manager:
    """Has one run, which a test changes."""

    def __init__(self) -> None:
        self.run: Snapshot | None = RUN

    def snapshot(self, id: str, counts: bool) -> Snapshot | None:
        assert id == "run" and not counts, "nobody looks"
        return self.run


@pytest.fixture
def storage(monkeypatch):
    """Streamlit's own, as its server asks it."""
    found = MemoryMediaFileStorage("/media")
    monkeypatch.setattr(
        runtime, "get_instance", lambda: type("Runtime", (), {"media_file_mgr": MediaFileManager(found)})
    )
    monkeypatch.setattr("kd.jobs.manager.TICK", 0.02)
    yield found
    assert not broadcast._begun, "nothing is drawn any more"
    broadcast._ended.clear()


@pytest.fixture
def manager(storage):
    found = Manager()
    yield found
    found.run = None
    for thread in threading.enumerate():
        if thread.name == "kd-broadcast":
            thread.join(30)


def drawn(snap: Snapshot) -> bytes:
    return f"{snap.state} {snap.version}".encode()


def fetched(storage, address: str) -> str:
    return gzip.decompress(storage.get_file(address.removeprefix("media/")).content).decode()


def test_the_file_is_there_at_once_and_follows_the_run_to_its_end(storage, manager):
    address = broadcast.address(manager, RUN, drawn)
    assert fetched(storage, address) == "running 1"
    manager.run = dataclasses.replace(RUN, version=2)
    wait_until(lambda: fetched(storage, address) == "running 2", "its next version")
    manager.run = dataclasses.replace(RUN, version=3, state="done")
    wait_until(lambda: fetched(storage, address) == "done 3", "its end")
    wait_until(lambda: not broadcast._begun, "that nothing is drawn any more")
    assert fetched(storage, address) == "done 3", "for browsers that slept"


def test_it_is_drawn_once_for_all(storage, manager):
    made = []
    addresses = {
        broadcast.address(manager, RUN, lambda snap: made.append(1) or drawn(snap)) for _ in range(20)
    }
    assert len(addresses) == 1 and len(made) == 1


def test_a_run_that_is_forgotten_ends_it(storage, manager):
    broadcast.address(manager, RUN, drawn)
    manager.run = None
    wait_until(lambda: not broadcast._begun, "that nothing is drawn any more")


def test_what_ended_long_ago_is_removed_and_what_may_be_asked_for_stays(storage, manager):
    for id in ("old", "new"):
        broadcast._put(id, b"")
    broadcast._ended |= {"old": time.monotonic() - broadcast.KEPT - 5, "new": time.monotonic()}
    broadcast.address(manager, RUN, drawn)
    assert set(storage._files_by_id) == {"live-new", "live-run"}


def test_a_run_that_was_resumed_stays(storage, manager):
    broadcast._ended["run"] = time.monotonic() - broadcast.KEPT - 5
    address = broadcast.address(manager, RUN, drawn)
    assert fetched(storage, address) == "running 1"
    broadcast._forget()
    assert fetched(storage, address) == "running 1"


def test_another_streamlit_is_told_and_ends_no_page(storage, manager, monkeypatch, caplog):
    monkeypatch.setattr(runtime, "get_instance", lambda: object())
    assert broadcast.address(manager, RUN, drawn) == "media/live-run.gz" and "sees it seldom" in caplog.text


def test_streamlit_does_not_take_it_for_a_file_that_nobody_shows(storage, manager):
    address = broadcast.address(manager, RUN, drawn)
    runtime.get_instance().media_file_mgr.remove_orphaned_files()
    assert fetched(storage, address) == "running 1"
