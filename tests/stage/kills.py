"""kill -9 at random moments: saved runs are there, and active runs resume to the same weights.

Run it by ``python -m tests.stage.kills [--kills 200] [--seed 0]``. Each round starts a process
with a real job manager on one run folder; it starts, pauses, stops, renames, deletes and
resumes small runs of random settings, and tells through a pipe what it was told is done.
It is killed at a random moment, and the folder is looked through. At the end all that was
interrupted is resumed. All weights are compared, bit for bit, with those of a training that
nothing disturbed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from safetensors.torch import load

from kd.store import checkpoints, runs
from tests.helpers import identical
from tests.stage import victim
from tests.stage.promise import tell_problems

LONGEST = 1.0  # seconds until the kill
#: Facts right after which a process is killed, too: something has just been written, or is being written.
DELICATE = ("started", "saved", "renaming", "renamed", "deleting", "deleted")


class Kills:
    """One run folder and what must be in it."""

    def __init__(self, folder: Path, seed: int):
        self.home, self.draw, self.seed = folder / "runs", random.Random(seed), seed
        self.home.mkdir()
        # A server that forks quickly, with everything imported and no thread yet.
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.stage.victim"])
        self.configs: dict[str, int] = {}  # id -> place in victim.CONFIGS
        self.saved: dict[str, str] = {}  # id -> state, of those that were called saved and are not deleted
        self.names: dict[str, set[str]] = {}  # id -> names that it may have
        self.deleting: set[str] = set()
        self.begun: set[str] = set()  # ids that were seen with a checkpoint
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        victim.write_digits(folder / "digits.safetensors")
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=victim.undisturbed, args=(str(self.home), theirs))
        process.start()
        self.expected = [
            {name: load(content) for name, content in ours.recv().items()} for _ in victim.CONFIGS
        ]
        process.join()

    def round(self, to_the_end: bool = False) -> None:
        """Start a process, kill it at a random moment unless ``to_the_end``, and check what is left."""
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=victim.work, args=(str(self.home), self.draw.randrange(2**31), theirs, to_the_end)
        )
        process.start()
        theirs.close()
        kill_at, patience = (
            None,
            self.draw.choice([0, 0, 1, 2, 4, 8]),
        )  # delicate facts to wait for; 0: any moment will do
        try:
            while True:
                wait = 120.0 if kill_at is None else max(0.0, kill_at - time.monotonic())
                if ours.poll(wait):
                    what, id, more = ours.recv()
                    self._hear(what, id, more)
                    if what == "ready" and not to_the_end:
                        kill_at = time.monotonic() + self.draw.uniform(0, LONGEST)
                    elif what in DELICATE and kill_at and patience:
                        patience -= 1
                        kill_at = (
                            kill_at + LONGEST if patience else time.monotonic() + self.draw.uniform(0, 0.005)
                        )
                elif kill_at is None:
                    raise TimeoutError("the process said nothing for two minutes")
                else:
                    os.kill(process.pid, signal.SIGKILL)
                    self.counts["kills"] += 1
                    kill_at = None
        except EOFError:  # it has ended, and all that it told was heard
            pass
        finally:
            process.kill()
            process.join()
        self.look()

    def _hear(self, what: str, id: str, more: Any) -> None:
        self.counts[what] += 1
        if what == "started":
            self.configs[id] = more
        elif what == "saved":
            self.saved[id] = more
        elif what == "renaming":
            self.names.setdefault(id, set()).update(
                (more, runs.load(id).name) if (self.home / id).exists() else (more,)
            )
        elif what == "renamed":
            self.names[id] = {more}
        elif what == "deleting":
            self.deleting.add(id)
            self.saved.pop(id, None)
        elif what in ("failed", "refused"):
            self.problems.append(f"{what} {id} {more}")

    def look(self) -> None:
        """Record as problems what must not be in the folder."""
        found, problems = runs.list_runs()
        unfinished, more = checkpoints.list_interrupted()
        self.problems += problems + more
        here = {run.id for run in found}
        self.problems += [f"{id} was called saved and is gone" for id in self.saved.keys() - here]
        self.begun |= {kept.id for kept in unfinished}
        self.problems += [
            f"{id} was under way and is gone"
            for id in self.begun - here - {kept.id for kept in unfinished} - self.deleting
        ]
        for run in found:
            self._look_at(run)
        for kept in unfinished:
            checkpoints.load(kept.id)
            self.counts["interrupted"] += 1

    def _look_at(self, run: runs.Run) -> None:
        if run.id in self.names and run.name not in self.names[run.id]:
            self.problems.append(f"{run.id} is called {run.name}")
        run.metrics()
        trained = {which: run.model(which) for which in run.models}
        if run.state == "done" and run.id in self.configs:
            expected = self.expected[self.configs[run.id]]
            if (
                not all(identical(model, expected[which]) for which, model in trained.items())
                or not {"student", "control"} <= trained.keys()
            ):
                self.problems.append(
                    f"{run.id} has other weights than a run that was never disturbed: {run.config}"
                )

    def end(self) -> None:
        """Resume all interrupted runs, let them finish, and look for leftovers."""
        before = [kept.id for kept in checkpoints.list_interrupted()[0]]
        self.round(to_the_end=True)
        for id in before:
            run = runs.load(id)
            self.counts["resumed to the end"] += run.state == "done"
        checkpoints.ABANDONED = -1.0
        checkpoints.tidy()
        left = [path.name for path in self.home.iterdir() if not runs.is_id(path.name)]
        self.problems += [f"{name} is left over" for name in left]


def run(kills: int, seed: int = 0) -> dict[str, Any]:
    """Kill ``kills`` times and return what happened, with ``problems``, which should be empty."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        home = os.environ.get("KD_HOME")
        abandoned = checkpoints.ABANDONED
        os.environ["KD_HOME"] = str(Path(folder) / "runs")
        try:
            made = Kills(Path(folder), seed)
            while made.counts["kills"] < kills:
                made.round()
            made.end()
        finally:
            checkpoints.ABANDONED = abandoned
            os.environ.pop("KD_HOME") if home is None else os.environ.update(KD_HOME=home)
    return {
        **made.counts,
        "problems": sorted(set(made.problems)),
        "seconds": round(time.monotonic() - started, 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    return tell_problems(run(given.kills, given.seed))


if __name__ == "__main__":
    sys.exit(main())
