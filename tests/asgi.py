"""A client for ASGI apps in tests, without a server and without the network."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Answer:
    """A response; ``content`` is unpacked where it came gzipped."""

    status_code: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes = b""

    @property
    def text(self) -> str:
        return self.content.decode()


def run(coroutine: Any) -> Any:
    """Run a coroutine in a thread of its own: the browser tests may have an event loop in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


class Client:
    """Sends requests to an ASGI app as a browser that takes gzip.

    Args:
        app: the ASGI app.
        host: the Host header.
    """

    def __init__(self, app: Any, host: str = "demo.local:8501"):
        self._app, self._host = app, host

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        return self.ask("GET", path, headers)

    def ask(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        sent = {"host": self._host, "accept-encoding": "gzip"}
        sent |= {name.lower(): value for name, value in (headers or {}).items()}
        path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
            "client": ("10.0.0.7", 1234),
            "app": None,
        }
        answer = Answer()

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                answer.status_code = message["status"]
                answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            else:
                answer.content += message.get("body", b"")

        run(self._app(scope, receive, send))
        if answer.headers.get("content-encoding") == "gzip":
            answer.content = gzip.decompress(answer.content)
        return answer
