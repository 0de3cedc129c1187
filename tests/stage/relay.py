"""A connection to a server that can be cut, as a network is, with all that is open."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Self


class Relay(threading.Thread):
    """Passes connections on to a port of this machine; while it is cut, it drops them.

    A browser's own offline mode leaves open websockets alone, which a lost network does not.
    """

    def __init__(self, to: int):
        super().__init__(name="relay", daemon=True)
        self._to, self._cut = to, False
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._open: set[asyncio.StreamWriter] = set()

    def __enter__(self) -> Self:
        self.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self.cut(True)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self.join(10)

    def run(self) -> None:
        asyncio.set_event_loop(self._loop)
        listening = self._loop.run_until_complete(asyncio.start_server(self._connected, "127.0.0.1", 0))
        self.port = listening.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        listening.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    def cut(self, off: bool) -> None:
        """Drop all connections and refuse new ones, or let them through again."""
        done = threading.Event()

        def change() -> None:
            self._cut = off
            for writer in list(self._open) if off else ():
                writer.transport.abort()
            done.set()

        self._loop.call_soon_threadsafe(change)
        done.wait(10)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            writer.transport.abort()
            return
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, to_server}
        self._open |= both
        try:
            with contextlib.suppress(asyncio.CancelledError):  # the relay's end
                await asyncio.gather(self._pump(reader, to_server), self._pump(from_server, writer))
        finally:
            self._open -= both
            for end in both:
                end.close()

    @staticmethod
    async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        with contextlib.suppress(OSError):
            writer.close()
