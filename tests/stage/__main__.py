"""Run all stress tests of a live demo, one after another, or those named.

    python -m tests.stage [load starts soak kills fuzz pages clicker] [options of the one named]

Each runs in its own process within a time limit. Options are passed on unchanged, so
`python -m tests.stage soak --minutes 3` is a short one. The exit code is 1 if a promise was
not kept or could not be tested.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import time

#: Name -> the minutes after which it is ended, whatever it does.
FORMS = {"load": 15, "starts": 10, "soak": 45, "kills": 45, "fuzz": 45, "pages": 45, "clicker": 120}


def run(name: str, options: list[str], minutes: float) -> int:
    """Run one stress test and return its exit code."""
    begin = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", f"tests.stage.{name}", *options], start_new_session=True
    )
    try:
        code = process.wait(60 * minutes)
    except subprocess.TimeoutExpired:
        print(f"FALLS SHORT  {name} was ended after {minutes:g} minutes")
        code = 1
    finally:
        # First as by Ctrl-C, so that it ends the servers and browsers that it started.
        for told in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            if process.poll() is None:
                os.killpg(process.pid, told)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(20)
    print(
        f"{'FALLS SHORT' if code else 'PASS':11}  {name}, in total, "
        f"in {(time.monotonic() - begin) / 60:.1f} min",
        flush=True,
    )
    return code


def main(arguments: list[str]) -> int:
    if set(arguments) & {"-h", "--help"}:
        print(__doc__ or "")
        return 0
    first = next((place for place, word in enumerate(arguments) if word.startswith("-")), len(arguments))
    names, options = arguments[:first] or list(FORMS), arguments[first:]
    if unknown := [name for name in names if name not in FORMS]:
        print(f"There is no stress test {', '.join(unknown)}; choose from {', '.join(FORMS)}.")
        return 2
    failed = []
    for name in names:
        print(f"-- {name}", flush=True)
        if importlib.util.find_spec(f"tests.stage.{name}") is None:
            print(f"FALLS SHORT  tests/stage/{name}.py is not there")
            failed.append(name)
        elif run(name, options, FORMS[name]):
            failed.append(name)
    print(f"All promises were kept: {', '.join(names)}." if not failed else f"Not kept: {', '.join(failed)}.")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
