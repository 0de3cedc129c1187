"""Files for the browser that come with installed packages: the chart library and ONNX Runtime Web."""

from __future__ import annotations

import functools
import gzip
import hashlib
import importlib.util
import threading
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from kd.ui import frontend

_PLOTLY = Path(importlib.util.find_spec("plotly").origin).parent

#: Name in the address -> file. Nothing else is served.
ASSETS = {
    "plotly.min.js": _PLOTLY / "package_data" / "plotly.min.js",
    **frontend.ONNX_RUNTIME_WEB,
}
_TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm"}
_YEAR = "public, max-age=31536000, immutable"
_reading = threading.Lock()


@dataclass(frozen=True)
class Asset:
    """A file as it is served.

    Attributes:
        content: the file, gzipped.
        etag: the file's ETag, in quotes.
    """

    content: bytes
    etag: str


@functools.cache
def _read(path: Path) -> Asset:
    content = path.read_bytes()
    etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    return Asset(gzip.compress(content, 6), etag)


def serve(request: Request) -> Response:
    """Answer a request for ``name`` from memory; the first one reads the file.

    With a version in the query (``?v=``) browsers keep the file for a year; without one they ask each time
    whether it has changed.
    """
    path = ASSETS.get(request.path_params["name"])
    if path is None:
        return PlainTextResponse("There is no file with this name here.", 404)
    try:
        with _reading:  # if several browsers ask at once, the file is compressed only once
            asset = _read(path)
    except OSError:
        return PlainTextResponse(f"{path.name} is not installed on this server. Run `make app` again.", 404)
    headers = {
        "ETag": asset.etag,
        "Cache-Control": _YEAR if request.query_params.get("v") else "no-cache",
        "X-Content-Type-Options": "nosniff",
        "Vary": "Accept-Encoding",
    }
    if request.headers.get("if-none-match") == asset.etag:
        return Response(status_code=304, headers=headers)
    content = asset.content
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
    else:
        content = gzip.decompress(content)
    return Response(content, headers=headers, media_type=_TYPES[path.suffix])
