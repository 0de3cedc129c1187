"""Pages at made-up addresses, on a real server and without a browser: no page ever shows an exception.

Run it with ``python -m tests.stage.pages [--pages 300] [--seed 0]``. Each address opens its own session, as a
browser would.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import websockets
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from kd.config.compress import CompressConfig
from kd.config.distil import DistilConfig
from kd.config.sweep import SweepConfig
from kd.config.teacher import TeacherConfig
from kd.lab.settings import LabSettings
from tests.server import Server
from tests.stage.invention import NAMES, NUMBERS
from tests.stage.promise import tell_problems

PAGES = ["", "draw", "dark_knowledge", "sweep", "runs", "compare", "compress", "methods", "paper"]
SETTINGS = list(
    dict.fromkeys(
        name
        for cls in (DistilConfig, TeacherConfig, CompressConfig, SweepConfig, LabSettings)
        for name in cls.__dataclass_fields__
    )
)
OTHERS = ["run", "lab_run", "mode", "drawn", "embed", "x"]
#: Settings that are valid and unusual.
UNUSUAL = {
    "student": [
        "mlp-1",
        "mlp-2047-3-1",
        "vit_rank-50",
        "linear_neurons-99",
        "mlp-64-32_neurons-50",
        "cnn-wide",
    ],
    "assistant": ["mlp-7", "cnn-tiny_rank-20"],
    "scheme": ["assistant", "mutual", "exits"],
    "method": ["fitnets", "attention", "pkt", "tf-kd"],
    "learning_rate": ["1e-06", "1"],
    "seed": ["2147483647"],
    "omitted": ["012345678"],
    "teacher": ["cnn+vit", "vit"],
    "network": ["vit"],
    "neurons": ["99"],
    "rank": ["99"],
    "weights": ["99"],
    "labels": ["10"],
    "label_noise": ["0.6"],
    "temperature": ["20", "1"],
    "image": ["9999"],
    "digit": ["2"],
    "like": ["2"],
    "mode": ["teacher"],
    "panel": ["inside", "fidelity", "shift", "never-saw", "label-budget", "break-it", "wrong-labels"],
    "schedule": ["3:temperature=8"],
    "epochs": ["200"],
    "batch_size": ["4096"],
}
SECONDS = 60.0  # for one page; what is measured is told


def address(draw: random.Random) -> tuple[str, str]:
    """Return a page and its query."""
    query = {}
    for _ in range(draw.choice([0, 1, 1, 2, 3, 5])):
        name = draw.choice(SETTINGS + OTHERS)
        if name in UNUSUAL and draw.random() < 0.6:
            query[name] = draw.choice(UNUSUAL[name])
        else:
            query[name] = str(
                draw.choice(
                    [text[:1500] for text in NAMES if text.isprintable()]
                    + [number for number in NUMBERS if number != 10**400]
                )
            )
    return draw.choice(PAGES), urlencode(query, errors="replace")


async def opened(server: Server, page: str, query: str) -> list[str]:
    """Return the exceptions that a page shows."""
    found = []
    async with websockets.connect(
        f"ws://127.0.0.1:{server.port}/_stcore/stream", subprotocols=["streamlit"], max_size=None
    ) as socket:
        message = BackMsg()
        message.rerun_script.query_string, message.rerun_script.page_name = query, page
        await socket.send(message.SerializeToString())
        reruns = 0
        while True:
            heard = ForwardMsg.FromString(await socket.recv())
            kind = heard.WhichOneof("type")
            if kind == "delta" and heard.delta.new_element.WhichOneof("type") == "exception":
                found.append(
                    heard.delta.new_element.exception.message or heard.delta.new_element.exception.type
                )
            elif kind == "script_finished":
                # A page that reruns itself says so by a fast rerun, which another new session follows.
                if heard.script_finished != ForwardMsg.FINISHED_EARLY_FOR_RERUN or reruns > 5:
                    return found
                reruns += 1


async def _all(server: Server, count: int, draw: random.Random) -> dict[str, Any]:
    problems, times, pages = [], [], Counter()
    for _ in range(count):
        page, query = address(draw)
        pages[page or "distil"] += 1
        started = time.perf_counter()
        try:
            shown = await asyncio.wait_for(opened(server, page, query), SECONDS)
        except (TimeoutError, OSError, websockets.ConnectionClosed) as error:
            shown = [repr(error)]
        times.append((time.perf_counter() - started, f"{page}?{query[:200]}"))
        complaint = server.complaints()
        if shown or complaint:
            problems.append(f"{page}?{query[:300]}: {' '.join(shown)[:200]} {complaint[-600:]}")
    return {
        "pages": count,
        "by page": dict(pages),
        "slowest_s": round(max(times)[0], 2),
        "slowest": max(times)[1],
        "problems": problems,
    }


def run(count: int, seed: int = 0) -> dict[str, Any]:
    """Open ``pages`` addresses and return what was found, with ``problems``, which should be empty."""
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder)) as server:
        return asyncio.run(_all(server, count, random.Random(seed)))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pages", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    return tell_problems(run(given.pages, given.seed))


if __name__ == "__main__":
    sys.exit(main())
