"""A server that is told to end does so at once, and leaves whole runs or none."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from kd import runs
from tests.serving import PATIENCE, Server, button, points, start, until, visit


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
    assert code == 0, server.log()[-3000:]
    assert took < 5
    assert "Traceback" not in server.log() and "terminate called" not in server.log(), server.log()[-3000:]
    monkeypatch.setenv("KD_HOME", str(server.home))
    found, problems = runs.list_runs()
    assert not problems and {name for name in os.listdir(server.home)} == {run}
    assert [(r.id, r.state) for r in found] == [(run, "interrupted")]
    assert found[0].model("student") and len(found[0].metrics()) >= 2
