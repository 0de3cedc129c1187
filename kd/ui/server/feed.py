"""The route of a run's live feed, which spectators' browsers fetch."""

from __future__ import annotations

import functools
import gzip

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from kd.config.kinds import KINDS
from kd.ui.charts.broadcast import Feed, Message

_UNKNOWN = "No run with this id is in training here. Reload the page to see whether it is stored."


@functools.cache
def feed() -> Feed:
    """Return the process's one feed. Its drawing code is imported when the first spectator comes."""
    from kd.store import runs
    from kd.ui.runs import curves
    from kd.ui.shell import shared

    def snapshot(run_id: str):
        found = shared.manager().snapshot(run_id, counts=False) if runs.is_id(run_id) else None
        return found if found is not None and KINDS[found.kind].page == "distil" else None

    return Feed(snapshot, curves.feed_message)


def _newest(run_id: str) -> Message | None:
    return feed().newest(run_id)


def _fresh(run_id: str) -> Message | None:
    return feed().fresh(run_id) if feed.cache_info().currsize else None


async def serve(request: Request) -> Response:
    """Answer with the run's charts and progress; status 304 where the browser has the newest.

    Whoever knows a run's id may watch it, as on the pages. A recent message is answered at once, in the event
    loop: with a thread for each request training kept 0.66 of its speed in a room of fifty, instead of 0.76.
    Whatever waits for a lock or computes runs in a thread.
    """
    run_id = request.path_params["run_id"]
    message = _fresh(run_id) or await run_in_threadpool(_newest, run_id)
    if message is None:
        return PlainTextResponse(_UNKNOWN, 404)
    headers = {"ETag": message.etag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    if request.headers.get("if-none-match") == message.etag:
        return Response(status_code=304, headers=headers)
    content = message.content
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
    else:
        content = await run_in_threadpool(gzip.decompress, content)
    return Response(content, headers=headers, media_type="application/json")
