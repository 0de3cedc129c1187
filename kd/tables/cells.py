"""Tables of many trainings, each a *cell*: a row of the table with one seed.

Each cell is computed in a process of its own with one thread, and kept as json; one
that was stopped goes on from its checkpoint.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import multiprocessing
import os
import platform
import signal
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from kd import paths
from kd.config.base import Config
from kd.data import sources
from kd.data.digits import Mnist
from kd.errors import UserError
from kd.experiments.base import Experiment

KEEP = 30.0  # seconds between the checkpoints of a cell, at the ends of epochs

Cell = tuple[str, int]  # the row's name and the seed
Progress = Callable[[float], None]  # is told the share that is done, 0 to 1, as it grows


def full_mnist() -> Mnist:
    """All of MNIST.

    Raises:
        UserError: it is not there.
    """
    try:
        return sources.load_full(paths.data_folder())
    except sources.FileProblem as problem:
        raise UserError(
            f"This table needs all of MNIST; set KD_DATA_DIR to a folder that has it. {problem}"
        ) from None


def path(table: str, cell: Cell, recipes: Sequence[Config]) -> Path:
    """Where a cell is kept. Named by all that its result depends on, so that another recipe finds nothing of this one."""
    digest = hashlib.sha256(json.dumps([recipe.to_query() for recipe in recipes]).encode()).hexdigest()[:8]
    return paths.cache_folder() / table / f"{cell[0]}-seed{cell[1]}-{digest}.json"


def train(experiment: Experiment, partial: Path, progress: Progress) -> float:
    """Trains to the end, from where it was stopped if ``partial`` is there; returns the seconds of processor time that all of it took."""
    kept, before = _read_partial(partial)
    began, saved = time.process_time(), time.monotonic()
    for record in experiment.records(state=kept):
        progress(record.step / record.steps)
        if time.monotonic() - saved > KEEP and record.step < record.steps:
            saved = time.monotonic()
            save(partial, experiment.training.state(), seconds=before + time.process_time() - began)
    return round(before + time.process_time() - began, 1)


def finish(to: Path, cell: Cell, experiment: Experiment, progress: Progress) -> dict[str, Any]:
    """Trains to the end, and keeps the cell with what each network came to on the test set."""
    seconds = train(experiment, to.with_suffix(".partial"), progress)
    measured = experiment.measures(None)["models"]
    outcome = {
        "row": cell[0],
        "seed": cell[1],
        "config": experiment.config.to_dict(),
        "models": measured,
        "seconds": seconds,
    }
    keep(to, outcome)
    return outcome


def keep(to: Path, outcome: Mapping[str, Any]) -> None:
    """Keeps a cell's outcome; its checkpoint has done its work."""
    _write(to, lambda path: path.write_text(json.dumps(outcome)))
    to.with_suffix(".partial").unlink(missing_ok=True)


def save(to: Path, tensors: Mapping[str, Tensor], **about: float) -> None:
    whole = {key: value.cpu().contiguous() for key, value in tensors.items()}
    _write(to, lambda path: save_file(whole, path, {key: str(value) for key, value in about.items()}))


def _write(to: Path, write: Callable[[Path], Any]) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    temporary = to.with_name(to.name + ".tmp")
    write(temporary)
    os.replace(temporary, to)


def _read_partial(partial: Path) -> tuple[dict[str, Tensor] | None, float]:
    """A checkpoint's state, and the seconds that went into it."""
    if not partial.exists():
        return None, 0.0
    with safe_open(partial, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, float(file.metadata()["seconds"])


def compute(
    cost: Mapping[Cell, float],
    where: Callable[[Cell], Path],
    work: Callable[[str, int, Progress], Any],
    progress: Progress,
    needs: Callable[[Cell], list[Cell]] = lambda cell: [],
    workers: int | None = None,
) -> list[dict[str, Any]]:
    """Computes all cells that are not kept yet, several at once; returns the outcomes of all, in their order.

    Args:
        cost: of each cell, about how long it takes against the others.
        where: each is kept.
        work: computes and keeps one; a function of a module, since other processes call it.
        needs: the cells that must be there before one.
        workers: processes at once; by default one for each core.
    """
    workers = workers or os.cpu_count() or 1
    shares = {cell: float(where(cell).exists()) for cell in cost}
    waiting = [cell for cell in cost if not shares[cell]]
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        news = manager.Queue()
        pool = concurrent.futures.ProcessPoolExecutor(workers, context, _begin)
        running: dict[concurrent.futures.Future, Cell] = {}
        try:
            while waiting or running:
                ready = [cell for cell in waiting if all(where(first).exists() for first in needs(cell))]
                for cell in ready[: workers - len(running)]:
                    waiting.remove(cell)
                    running[pool.submit(_work, work, cell, news)] = cell
                done, _ = concurrent.futures.wait(running, 0.5, concurrent.futures.FIRST_COMPLETED)
                for future in done:
                    shares[running.pop(future)] = 1.0
                    future.result()  # raises what went wrong
                while not news.empty():
                    cell, share = news.get()
                    shares[cell] = max(share, shares[cell])
                progress(sum(cost[cell] * share for cell, share in shares.items()) / sum(cost.values()))
        except BaseException:
            for process in list((pool._processes or {}).values()):
                process.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
    return [json.loads(where(cell).read_text()) for cell in cost]


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    torch.set_num_threads(1)


def _work(work: Callable[[str, int, Progress], Any], cell: Cell, news: Any) -> None:
    parent = os.getppid()

    def progress(share: float) -> None:
        if os.getppid() != parent:
            os._exit(1)  # nobody waits for it any more
        news.put((cell, share))

    work(*cell, progress)


def about(outcomes: Sequence[Mapping[str, Any]], whole: str, usual: int) -> dict[str, Any]:
    """What is to know of a table: the command that makes it, its seeds and epochs, what it took and where.

    Args:
        whole: the command that makes a table of the ``usual`` number of seeds.
    """
    seeds = len({cell["seed"] for cell in outcomes})
    return {
        "command": command(whole, seeds, usual),
        "epochs": outcomes[0]["config"]["epochs"],
        "seeds": seeds,
        "core_minutes": round(sum(cell["seconds"] for cell in outcomes) / 60, 1),
        "machine": machine(),
    }


def by_row(outcomes: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The cells of each row, in the order of their seeds."""
    found: dict[str, list[dict[str, Any]]] = {}
    for cell in outcomes:
        found.setdefault(cell["row"], []).append(cell)
    return found


def command(whole: str, seeds: int, usual: int) -> str:
    """The command that makes a table of so many seeds; ``whole`` makes that of the usual number."""
    return whole if seeds == usual else whole.replace(" --json", f" --seeds {seeds} --json")


def spread(values: Sequence[float], digits: int = 2) -> dict[str, float]:
    """Mean and standard deviation, which is 0 of a single value."""
    return {
        "mean": round(statistics.mean(values), digits),
        "sd": round(statistics.stdev(values), digits) if len(values) > 1 else 0.0,
    }


def shown(of: Mapping[str, float], digits: int = 2, unit: str = "") -> str:
    """ "97.12 ± 0.10": a spread to read; one seed has none."""
    deviation = f" ± {of['sd']:.{digits}f}" if of["sd"] else ""
    return f"{of['mean']:.{digits}f}{deviation}{unit}"


def machine() -> str:
    """What a table was computed on."""
    return f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}"


def stored(file: Path, command: str) -> dict[str, Any] | None:
    """A table that was measured and stored, or None where there is none yet.

    Raises:
        UserError: the file is damaged.
    """
    try:
        return json.loads(file.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        raise UserError(
            f"The stored table is damaged; restore {file.name}, or make it by: {command}"
        ) from None
