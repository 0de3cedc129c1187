"""Bad input by the thousand: each case gives a value or a plain error, within limits.

Run it with ``python -m tests.stage.fuzz [--cases 10000] [--seed 0]``. Config, canvas data,
pictures, weights, ids and names, and the files of runs and checkpoints are made up, or
taken and damaged. A case fails if it raises anything but a UserError, takes over 5 s or
200 MB, writes or reads outside the run folder, or follows a link out of it. All cases run
in one separate process, whose file access is watched. Pages with made-up
addresses are in tests/stage/pages.py.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.stage.promise import tell_problems

SECONDS, BYTES = 5.0, 200e6
ROOT = Path(__file__).parents[2]


class Watch:
    """A case's file access, by Python's audit hook, and its memory, by the system's count."""

    def __init__(self, folder: Path):
        self._folder, self.active, self.outside = str(folder.resolve()), False, []
        self._read = tuple(
            {
                str(Path(path).resolve())
                for path in (sys.prefix, sys.base_prefix, ROOT, "/proc", "/sys", "/usr", "/dev", "/etc/ssl")
            }
        )
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.active or event not in (
            "open",
            "os.rename",
            "os.remove",
            "os.mkdir",
            "os.rmdir",
            "os.symlink",
            "os.link",
            "os.truncate",
            "os.chmod",
            "shutil.rmtree",
            "socket.connect",
        ):
            return
        if event == "socket.connect":
            self.outside.append(f"{event} {arguments[1:]}")
            return
        pairs = event in ("os.rename", "os.link", "os.symlink")
        if (
            event in ("os.remove", "os.rmdir", "os.mkdir") and arguments[-1] != -1
        ):  # below a folder that was opened before
            return
        writes = event != "open" or arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        for path in [path for path in arguments[: 1 + pairs] if isinstance(path, (str, bytes, os.PathLike))]:
            path = os.fsdecode(path)
            # The last part is followed by opening alone, and not where that is forbidden.
            follows = event == "open" and not arguments[2] & os.O_NOFOLLOW
            real = (
                os.path.realpath(path)
                if follows
                else os.path.join(os.path.realpath(os.path.dirname(path) or "."), os.path.basename(path))
            )
            inside = real == self._folder or real.startswith(self._folder + os.sep)
            if not inside and (writes or not real.startswith(self._read)):
                self.outside.append(f"{event} {real}")

    @staticmethod
    def resident(which: str) -> int:
        """Return VmRSS, the memory in use, or VmHWM, the peak since reset(), in bytes; 0 if unknown."""
        try:
            return next(
                int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(which)
            )
        except (OSError, StopIteration):
            return 0

    @staticmethod
    def reset() -> None:
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            pass


class Fuzz:
    """Cases one after another, and what was found."""

    def __init__(self, folder: Path, seed: int):
        from tests.stage.cases import Cases

        self.draw = random.Random(seed)
        self.cases = Cases(folder, self.draw)
        self.watch = Watch(folder)
        self.counts: Counter[str] = Counter()
        self.refused, self.problems = 0, []
        self.slowest, self.largest = (0.0, ""), (0, "")

    def run(self, name: str, case: Callable[[], Any]) -> None:
        from kd.errors import UserError

        number = sum(self.counts.values())
        self.counts[name] += 1
        self.watch.reset()
        before, started = self.watch.resident("VmRSS"), time.perf_counter()
        self.watch.active = True
        try:
            case()
        except UserError as error:
            self.refused += 1
            if "\n" in str(error) or len(str(error)) > 1500 or "Traceback" in str(error):
                self.problems.append(f"case {number} {name}: no plain sentence: {str(error)[:200]!r}")
        except Exception:
            self.problems.append(f"case {number} {name}: {' '.join(traceback.format_exc().split())[-600:]}")
        finally:
            self.watch.active = False
        took, more = time.perf_counter() - started, self.watch.resident("VmHWM") - before
        self.slowest, self.largest = max(self.slowest, (took, name)), max(self.largest, (more, name))
        if took > SECONDS:
            self.problems.append(f"case {number} {name}: took {took:.1f} s")
        if more > BYTES:
            self.problems.append(f"case {number} {name}: took {more / 1e6:.0f} MB")
        self.problems += [
            f"case {number} {name}: outside the folder: {what}"
            for what in (self.watch.outside + self.cases.written_outside())[:3]
        ]
        self.watch.outside.clear()

    def all(self, count: int, worst: bool) -> dict[str, Any]:
        kinds = self.cases.kinds()
        for _ in range(2):  # what is made once, at the first call, is nobody's fault
            for make in kinds.values():
                make()
        for name, case in self.cases.worst() if worst else []:
            self.run(name, case)
        names, shares = list(kinds), self.cases.shares()
        while sum(self.counts.values()) < count:
            name = self.draw.choices(names, [shares[name] for name in names])[0]
            case = kinds[name]()
            self.run(name, case)
        return {
            "cases": sum(self.counts.values()),
            "refused": self.refused,
            "by kind": dict(self.counts),
            "slowest_s": round(self.slowest[0], 2),
            "slowest": self.slowest[1],
            "largest_MB": round(self.largest[0] / 1e6),
            "largest": self.largest[1],
            "problems": self.problems,
        }


def run(cases: int, seed: int = 0, worst: bool = True, seconds: float = 2400.0) -> dict[str, Any]:
    """Run ``cases`` cases in another process and return the result; ``problems`` should be empty."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {
            "KD_HOME": f"{folder}/runs",
            "KD_CACHE_DIR": f"{folder}/cache",
            "KD_DATA_DIR": f"{folder}/data",
            "OMP_NUM_THREADS": "1",
        }
        command = [
            sys.executable,
            "-m",
            "tests.stage.fuzz",
            "--inside",
            folder,
            "--cases",
            str(cases),
            "--seed",
            str(seed),
            "--worst" if worst else "--no-worst",
        ]
        ended = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
    if ended.returncode:
        return {
            "cases": 0,
            "problems": [f"the process ended with {ended.returncode}: {ended.stderr[-2000:]}"],
        }
    return {**json.loads(ended.stdout.splitlines()[-1]), "seconds": round(time.monotonic() - started, 1)}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--worst",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="the largest that is let in too, which takes half a minute",
    )
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        print(json.dumps(Fuzz(Path(given.inside), given.seed).all(given.cases, given.worst)))
        return 0
    return tell_problems(run(given.cases, given.seed, given.worst), 40)


if __name__ == "__main__":
    sys.exit(main())
