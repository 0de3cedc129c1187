"""SIGTERM ends the server even if clients hold requests and websockets open."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from benchmarks.viewer import Viewer
from kd.store import checkpoints
from tests.server import Server


def test_sigterm_ends_a_server_with_open_requests(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("KD_HOME", str(tmp_path / "runs"))

    async def visit(server: Server, stack: contextlib.ExitStack) -> tuple[int, float, str]:
        async with contextlib.AsyncExitStack() as room:
            owner = await room.enter_async_context(Viewer(server.link(**server.endless())))
            await owner.press("start")
            await owner.until(lambda: owner.epoch, "an epoch")
            guest = await room.enter_async_context(Viewer(owner.link))
            await guest.until(lambda: guest.epoch, "an epoch, from the live feed")
            for request in (
                b"GET /kd/assets/ort.mjs HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",  # answered, but kept open
                b"GET /kd/assets/plotly.min.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",  # never read
                b"GET /kd/feed/x HTTP/1.1\r\nHost:",  # a request without an end
            ):
                client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
                client.sendall(request)
            await asyncio.sleep(0.5)
            begin = time.monotonic()
            code = await asyncio.to_thread(server.stop)
            return code, time.monotonic() - begin, dict(parse_qsl(urlsplit(owner.link).query))["run"]

    with Server(tmp_path) as server, contextlib.ExitStack() as stack:
        code, took, run = asyncio.run(visit(server, stack))
    assert code in (0, -signal.SIGTERM, 128 + signal.SIGTERM) and took < 10, server.log()[-3000:]
    assert not server.complaints(), server.log()[-3000:]
    assert checkpoints.load(run).rows, "a checkpoint must have been saved"
