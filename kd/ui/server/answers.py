"""The route of a run's answers to a drawing, which browsers fetch while the run trains."""

from __future__ import annotations

import math

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from kd.config.kinds import KINDS
from kd.drawing import links
from kd.errors import UserError
from kd.store import runs

_UNKNOWN = "No run with this id is in training here. Reload the page to see whether it is stored."
_TEMPERATURE = "temperature must be a number between 1 and 20."


def serve(request: Request) -> Response:
    """Answer with what teacher, student and control say to a picture now; status 304 where nothing changed.

    Whoever knows a run's id may ask, as on the pages. The picture comes in the address, so that nothing has
    to be kept between two requests. A plain function: networks are evaluated in a thread.

    Query parameters:
        picture: (28, 28) uint8, as ``kd.drawing.links`` writes it.
        temperature: 1 to 20.
        apart: 1 for a chart of its own for each model.
    """
    from kd.ui.drawing import answers  # torch is not needed before the first drawing
    from kd.ui.shell import shared

    run_id = request.path_params["run_id"]
    snap = shared.manager().snapshot(run_id, counts=False) if runs.is_id(run_id) else None
    if snap is None or not KINDS[snap.kind].leaves_student:
        return PlainTextResponse(_UNKNOWN, 404)
    try:
        picture = links.from_text(request.query_params.get("picture", ""))
        temperature = _temperature(request.query_params.get("temperature", "1"))
    except UserError as error:
        return PlainTextResponse(str(error), 400)
    apart = request.query_params.get("apart") == "1"
    # The address names the picture; with the run's version it determines the answer.
    headers = {"ETag": f'"{snap.version}-{snap.state}-{snap.pace:g}"', "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    content = answers.message(snap, picture, temperature, apart)
    return Response(content, headers=headers, media_type="application/json")


def _temperature(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise UserError(_TEMPERATURE) from None
    if not math.isfinite(value) or not 1 <= value <= 20:
        raise UserError(_TEMPERATURE)
    return value
