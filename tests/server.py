"""A server for tests and benchmarks: the app in its own process."""

from __future__ import annotations

import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

from kd import paths
from kd.data import sources

ROOT = Path(__file__).parents[1]
COMPLAINT = re.compile(r"Traceback|\bERROR\b|Uncaught")  # in a log
PATIENCE = float(
    os.environ.get("KD_PATIENCE", "120")
)  # seconds; busy machines are slow, and what goes right does not wait

# Read now, before a fixture gives the tests a cache folder of their own.
_DATA = paths.data_folder()


def mnist_folder() -> Path | None:
    """Return the environment's folder with all of MNIST, or None."""
    sizes = {name: 4 + 4 * len(shape) + math.prod(shape) for name, (_, shape, _) in sources.FILES.items()}
    files = [sources.raw_folder(_DATA) / name for name in sizes]
    return _DATA if all(file.exists() and file.stat().st_size == sizes[file.name] for file in files) else None


class Server:
    """The app, served by its own process on a free port of this machine.

    Args:
        folder: where it keeps runs, cache and log.
        data_dir: its data folder; left out: MNIST where the environment has it, else an empty folder.
        options: further options of ``streamlit run``.
        start_in: the folder that it is started from; by default the project's.
        home: its folder of runs; by default one in ``folder``.
        proxy: the address of its proxy for outgoing requests; by default one that refuses all.

    A download of MNIST fails at once, whatever the network: results must not depend on it.
    """

    def __init__(
        self,
        folder: Path,
        data_dir: Path | None = None,
        options: Sequence[str] = (),
        start_in: Path = ROOT,
        home: Path | None = None,
        proxy: str = "http://127.0.0.1:9",
    ):
        self.home, self.log_file = home or folder / "runs", folder / "server.log"
        self.full = data_dir is None and mnist_folder() is not None
        self.data_dir = data_dir or mnist_folder() or folder / "data"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        environment = os.environ | {
            "KD_HOME": str(self.home),
            "KD_CACHE_DIR": str(folder / "cache"),
            "KD_DATA_DIR": str(self.data_dir),
            "http_proxy": proxy,
            "https_proxy": proxy,
            "no_proxy": "127.0.0.1",
        }
        command = [
            sys.executable,
            "-m",
            "streamlit",
            "run",
            str(ROOT / "app.py"),
            "--server.port",
            str(self.port),
            "--server.headless",
            "true",
            *options,
        ]
        base = [option.partition("=")[2] for option in options if option.startswith("--server.baseUrlPath=")]
        self._health = f"{self.url}/{'/'.join([*base, '_stcore/health'])}"
        self._read = 0
        with open(self.log_file, "wb") as log:
            # A process group of its own, so that what it started can be ended with it, and nothing else.
            self.process = subprocess.Popen(
                command,
                cwd=start_in,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait_until_healthy()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def link(self, page: str = "", **settings: Any) -> str:
        """Return the address of a page with settings in its query."""
        return f"{self.url}/{page}" + (f"?{urlencode(settings)}" if settings else "")

    def epochs(self, on_all: int) -> int:
        """Return the number of epochs that gives about the same number of steps on this server's data."""
        return on_all if self.full else min(200, on_all * 14)

    def steps_per_epoch(self, batch_size: int = 128) -> int:
        return -(-(55_000 if self.full else 4_000) // batch_size)

    def endless(self) -> dict[str, Any]:
        """Return the settings of a run that trains for minutes on any machine."""
        return {"student": "mlp-30", "epochs": 200, "batch_size": 8 if self.full else 1}

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def complaints(self) -> str:
        """Return the errors in the log since the last call."""
        text, start = self.log(), self._read
        self._read = len(text)
        return text[start:] if COMPLAINT.search(text[start:]) else ""

    def stop(self, seconds: float = 15.0) -> int:
        """End the process as a service manager would and return its exit code; kill it after ``seconds``."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        return self.process.returncode

    def _wait_until_healthy(self) -> None:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        end = time.monotonic() + PATIENCE
        while True:
            try:
                with opener.open(self._health, timeout=5) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                pass
            if self.process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise RuntimeError(f"The server did not start; its log:\n{self.log()}")
            time.sleep(0.05)
