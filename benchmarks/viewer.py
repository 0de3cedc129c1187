"""A viewer without a browser: one Streamlit session over a websocket.

Does what Streamlit's front end does for a page that is only watched: it opens the page, repeats the fragments
that ask for it at their interval, tells the server which messages it keeps, presses buttons, and sends
drawings as the canvas does. And it does what kd/ui/frontend/chart.js does in a browser: it fetches what is
new of a run that it follows, and of the answers to its drawing. It shows nothing and reads only what that
takes, so that many viewers cost little of the cores that they share with the server: half a millisecond a
tick. The values of widgets that a browser sends along are left out, but for the drawing's; they made no
difference to the server's work that could be measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

import websockets
from streamlit.proto.Alert_pb2 import Alert
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

_HEAD = 4096  # bytes, at most, before the figures of a run that is followed
_KEPT = 2  # runs of its script that a message is kept for, as in Streamlit's front end
_SAID = re.compile(r'"role": "(\w+)"[^{}]*"digit": "(\d)"')
_FOLLOW = re.compile(rb'"follow": "([^"]+)"')
_ENDED = (ForwardMsg.FINISHED_SUCCESSFULLY, ForwardMsg.FINISHED_FRAGMENT_RUN_SUCCESSFULLY)


_REST = 0.25  # seconds between two looks whether there is something to follow
_CHARTS = {"_run": b"chart_loss", "_answers": b"chart_answers"}


@dataclass
class _Followed:
    """Charts that the browser fetches again by itself."""

    address: str
    fragment: str  # that shows them
    every: float = 0.0  # seconds between two requests; 0 ends them
    seen: tuple[int, str] = (-1, "")  # the version and the state that were fetched last
    etag: str = ""


class Viewer:
    """One session. To be used as an async context manager.

    Args:
        link: the page's address, query included.
        polling: whether fragments are repeated; it can change at any time.
    """

    def __init__(self, link: str, polling: bool = True):
        self._address = urlsplit(link)
        self.polling = polling
        self.ticks: list[float] = []  # when repetitions and looks ended, by time.monotonic()
        self.seen: list[float] = []  # when the page told the epoch
        self.told: list[str] = []  # what it showed as errors
        self.waiting = ""  # the page's message on the queue
        self.said: dict[str, int] = {}  # of the drawing, by model
        self.mentioned: set[str] = set()  # ids of runs
        self.received = 0  # bytes
        self.epoch: float | None = None  # of the run shown, as the page says it
        self._page = ""
        self._fragments: dict[str, tuple[float, asyncio.Task]] = {}  # id -> interval in seconds, its timer
        self._run: _Followed | None = None  # by its live feed
        self._answers: _Followed | None = None  # to the drawing
        self._followers: list[asyncio.Task] = []
        self._kept: dict[str, int] = {}  # hash of a message -> the run that it came with
        self._runs = 0
        self.buttons: dict[str, str] = {}  # key -> id
        self._canvas = ("", "")  # its id, and the fragment that it is in
        self._drawing: tuple[str, str] | None = None  # its id, and what it holds
        self._news = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._socket = await websockets.connect(
            f"ws://{self._address.netloc}/_stcore/stream",
            subprotocols=["streamlit"],
            max_size=None,
            ping_interval=None,
        )
        self._listener = asyncio.create_task(self._listen())
        await self._rerun()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._forget_fragments()
        for follower in self._followers:
            follower.cancel()
        await self._socket.close()
        await self._listener

    @property
    def link(self) -> str:
        """The page's address as it is now; that of a page with a run lets others watch it."""
        return self._address.geturl()

    @property
    def interval(self) -> float | None:
        """Seconds between two requests for the run, or None if nothing is repeated."""
        if self._run:
            return self._run.every
        return min((interval for interval, _ in self._fragments.values()), default=None)

    async def until(self, check: Callable[[], Any], what: str, seconds: float = 120.0) -> None:
        """Waits until ``check()`` is true; it is asked after each run of the page's script.

        Raises:
            TimeoutError: it is not within ``seconds``.
            ConnectionError: the server ended the session.
        """

        async def wait() -> None:
            while not check():
                if self._listener.done():
                    self._listener.result()
                    raise ConnectionError(
                        "the server ended the connection "
                        f"({self._socket.close_reason or self._socket.close_code})"
                    )
                self._news.clear()
                await self._news.wait()

        try:
            await asyncio.wait_for(wait(), seconds)
        except TimeoutError as error:
            raise TimeoutError(f"not within {seconds:g} s: {what}") from error

    async def press(self, key: str) -> None:
        """Presses the button with this key, once it is there."""
        await self.until(lambda: key in self.buttons, f"a button {key}")
        message = BackMsg()
        widget = message.rerun_script.widget_states.widgets.add()
        widget.id, widget.trigger_value = self.buttons[key], True
        await self._rerun(message)

    async def draw(self, digit: int, strokes: list[list[tuple[float, float]]], data: str) -> float:
        """Draw a digit as a browser's canvas reports it; return the seconds until the teacher's answer.

        Args:
            digit: the digit, which must differ from the one before.
            strokes: points in the unit square.
            data: the picture of them as a data URL.
        """
        await self.until(lambda: self._canvas[0], "a canvas")
        objects = [
            {
                "type": "Path",
                "stroke": "#FFFFFF",
                "strokeWidth": 20,
                "path": [["L", 280 * x, 280 * y] for x, y in stroke],
            }
            for stroke in strokes
        ]
        id, fragment = self._canvas
        self._drawing = (
            id,
            json.dumps(
                {
                    "drawing": {
                        "raw": {"version": "7.4.0", "objects": objects, "background": "#000000"},
                        "data": data,
                    }
                }
            ),
        )
        begin = time.monotonic()
        await self._repeat(fragment, automatic=False)
        await self.until(
            lambda: self.said.get("teacher") == digit,
            f"a drawn {digit} read as one, instead of as {self.said.get('teacher')}",
            30,
        )
        return time.monotonic() - begin

    @property
    def connected(self) -> bool:
        return not self._listener.done()

    async def poll(self) -> None:
        """Repeats the page's fragments once, now."""
        for fragment in list(self._fragments):
            await self._repeat(fragment)

    # -- what Streamlit's front end does -------------------------------------------

    async def _rerun(self, message: BackMsg | None = None) -> None:
        message = message or BackMsg()
        state = message.rerun_script
        state.query_string, state.page_script_hash = self._address.query, self._page
        state.cached_message_hashes.extend(self._kept)
        if self._drawing:
            widget = state.widget_states.widgets.add()
            widget.id, widget.json_value = self._drawing
        await self._socket.send(message.SerializeToString())

    async def _repeat(self, fragment: str, automatic: bool = True) -> None:
        message = BackMsg()
        message.rerun_script.fragment_id, message.rerun_script.is_auto_rerun = fragment, automatic
        await self._rerun(message)

    async def _timer(self, fragment: str, interval: float) -> None:
        """Like setInterval: at fixed times, however long an answer takes."""
        due = time.monotonic()
        while True:
            due = max(due + interval, time.monotonic())
            await asyncio.sleep(due - time.monotonic())
            if self.polling:
                await self._repeat(fragment)

    async def _follow(self, which: Callable[[], _Followed | None]) -> None:
        """Fetch ``which`` at the pace that the server sets, over one connection like a browser."""
        due = time.monotonic()
        async with contextlib.AsyncExitStack() as stack:
            reader = writer = None
            while True:
                target = which()
                due = max(due + (target.every if target else _REST), time.monotonic())
                await asyncio.sleep(due - time.monotonic())
                target = which()
                if not self.polling or not target or not target.every:
                    continue
                try:
                    if writer is None or reader.at_eof():
                        reader, writer = await asyncio.open_connection(
                            self._address.hostname, self._address.port
                        )
                        stack.callback(writer.close)
                    writer.write(
                        (
                            f"GET /{target.address} HTTP/1.1\r\nHost: {self._address.netloc}\r\n"
                            f"If-None-Match: {target.etag}\r\nAccept-Encoding: gzip\r\n\r\n"
                        ).encode()
                    )
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
                    content = await reader.readexactly(int(length[1]) if length else 0)
                except (OSError, asyncio.IncompleteReadError):  # the next look may succeed
                    writer = None
                    continue
                self.received += len(head) + len(content)
                if b" 200 " in head.split(b"\r\n", 1)[0]:
                    target.etag = re.search(rb"etag: (\S+)", head, re.IGNORECASE)[1].decode()
                    if b"content-encoding: gzip" in head.lower():
                        content = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(content, _HEAD)
                    before = target.seen
                    self._look(target, content)
                    if target.seen[1] != before[1]:
                        await self._repeat(target.fragment, automatic=False)
                if target is self._run:
                    self.ticks.append(time.monotonic())
                self._news.set()

    def _look(self, target: _Followed, content: bytes) -> None:
        """Read the part of a response before its figures."""
        news = json.loads(content[: content.index(b', "plotly": ')] + b"}")
        target.every = news["every"]
        if news["version"] > target.seen[0]:
            target.seen = news["version"], news["state"]
            if "progress" in news:
                self._progress(news["progress"]["text"].encode())

    async def _listen(self) -> None:
        try:
            async for payload in self._socket:
                self._hear(payload)
        except websockets.ConnectionClosedError:
            pass  # seen by who waits for something
        finally:
            self._news.set()

    def _hear(self, payload: bytes) -> None:
        message = ForwardMsg.FromString(payload)
        self.received += len(payload)
        kind = message.WhichOneof("type")
        if message.metadata.cacheable:
            self._kept[message.hash] = self._runs
        elif kind == "ref_hash":
            self._kept[message.ref_hash] = self._runs
        if kind == "delta":
            self._read(payload, message)
        elif kind == "new_session":
            self._page = message.new_session.page_script_hash
            if not message.metadata.run.fragment_ids:
                self._forget_fragments()
        elif kind == "auto_rerun":
            self._start_timer(message.auto_rerun.fragment_id, message.auto_rerun.interval)
        elif kind == "page_info_changed":
            self._address = self._address._replace(query=message.page_info_changed.query_string)
        elif kind == "script_finished" and message.script_finished in _ENDED:
            self._runs += 1
            self._kept = {hash: run for hash, run in self._kept.items() if self._runs - run <= _KEPT}
            if message.script_finished == ForwardMsg.FINISHED_FRAGMENT_RUN_SUCCESSFULLY:
                self.ticks.append(time.monotonic())
            self._news.set()

    def _read(self, payload: bytes, message: ForwardMsg) -> None:
        """The little that is read of the page itself."""
        if not self._followers:
            for which in (lambda: self._run, lambda: self._answers):
                self._followers.append(asyncio.create_task(self._follow(which)))
        for chart in ("_run", "_answers"):
            if _CHARTS[chart] not in payload:
                continue
            target = None
            if found := _FOLLOW.search(payload):
                target = _Followed(found[1].decode(), message.delta.fragment_id)
                self._look(target, message.delta.new_element.bidi_component.bytes)
            setattr(self, chart, target)
            if chart == "_answers":
                self.said |= {
                    role: int(digit) for role, digit in _SAID.findall(payload.decode(errors="replace"))
                }
        if len(payload) > 4000:  # a chart
            return
        self._progress(payload)
        if found := re.search(rb"Waiting: [^\x00-\x1f]+", payload):
            self.waiting = found[0].decode(errors="replace")
        self.mentioned |= {id.decode() for id in re.findall(rb"\d{8}-\d{6}-[0-9a-f]{16}", payload)}
        for id, key in re.findall(rb"(\$\$ID-[0-9a-f]+-(\w+))", payload):
            self.buttons[key.decode()] = id.decode()
            if key.startswith(b"canvas_"):
                self._canvas = (id.decode(), message.delta.fragment_id)
        element = message.delta.new_element
        if element.WhichOneof("type") == "alert" and element.alert.format == Alert.ERROR:
            self.told.append(element.alert.body)
        elif element.WhichOneof("type") == "exception":
            self.told.append(f"{element.exception.type}: {element.exception.message}")

    def _progress(self, text: bytes) -> None:
        if found := re.search(rb"epoch ([\d.]+) of", text):
            self.epoch = float(found[1])
            self.seen.append(time.monotonic())

    def _start_timer(self, fragment: str, interval: float) -> None:
        if fragment in self._fragments:
            if self._fragments[fragment][0] == interval:
                return
            self._fragments[fragment][1].cancel()
        self._fragments[fragment] = (interval, asyncio.create_task(self._timer(fragment, interval)))

    def _forget_fragments(self) -> None:
        for _, timer in self._fragments.values():
            timer.cancel()
        self._fragments.clear()
