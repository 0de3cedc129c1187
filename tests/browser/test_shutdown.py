"""A server ends when it is told to; however it ends, an active run can be resumed."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from kd.store import checkpoints, runs
from tests.serving import PATIENCE, Server, button, cell, points, start, until, visit


@pytest.mark.parametrize("paused", [False, True], ids=["training", "paused"])
def test_sigterm_ends_the_server_cleanly_during_a_run(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, paused: bool
) -> None:
    with Server(tmp_path) as server:
        page = browser.new_page()  # its console may complain: the server goes away
        page.set_default_timeout(PATIENCE * 1000)
        visit(page, server.link(**server.endless()))
        run = start(page)
        until(page, lambda: len(points(page)) >= 2, "two points")
        if paused:
            button(page, "Pause").click()
            button(page, "Resume").wait_for()
        begin = time.monotonic()
        code = server.stop()
        took = time.monotonic() - begin
        page.context.close()
    assert code in (0, -signal.SIGTERM), server.log()[-3000:]  # ended by the signal, once all is closed
    assert took < 5
    assert "Traceback" not in server.log() and "terminate called" not in server.log(), server.log()[-3000:]
    monkeypatch.setenv("KD_HOME", str(server.home))
    assert {name for name in os.listdir(server.home)} == {f"{run}.checkpoint"} and runs.list_runs() == (
        [],
        [],
    )
    kept = checkpoints.load(run)
    assert len(kept.rows) >= 2 and kept.owner and kept.state["step"] == kept.rows[-1]["step"]


def test_run_of_a_killed_server_resumes_after_a_restart(browser: Browser, tmp_path: Path) -> None:
    page = browser.new_page()
    page.set_default_timeout(PATIENCE * 1000)
    with Server(tmp_path) as server:
        visit(page, server.link(**server.endless()))
        run = start(page)
        until(page, lambda: len(points(page)) >= 2, "two points")
        button(page, "Pause").click()
        button(page, "Resume").click()  # a checkpoint was kept at the pause
        until(page, (server.home / f"{run}.checkpoint").exists, "a checkpoint")
        os.killpg(server.process.pid, signal.SIGKILL)
        server.process.wait()
    with Server(tmp_path) as server:
        visit(page, server.link("runs"))
        expect(cell(page, "interrupted")).to_be_attached()
        visit(page, server.link(run=run))
        expect(page.get_by_text("The server stopped or failed during this run")).to_be_visible()
        before = until(page, lambda: points(page), "the points so far")
        expect(button(page, "Discard")).to_be_visible()
        button(page, "Resume").click()
        after = until(page, lambda: len(points(page)) > len(before) and points(page), "another point")
        assert after[: len(before)] == before and after == sorted(set(after))
        expect(button(page, "Pause")).to_be_visible()
        page.context.close()
        assert "Traceback" not in server.log(), server.log()[-3000:]
