"""Tables of many trainings, each a *cell*: a row of the table with one seed.

Each cell is computed in its own process with one thread and stored as JSON; a cell that was stopped
continues from its checkpoint.
"""

from __future__ import annotations

import concurrent.futures
import decimal
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
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from kd import paths
from kd.config.base import Config
from kd.data import sources
from kd.data.digits import Mnist
from kd.device import cores
from kd.errors import UserError, hindrance
from kd.experiments.base import Experiment

#: The teacher of the tables of methods, schemes and compression that are stored in kd/measured.
TEACHER = "cnn"
KEEP = 30.0  # seconds between the checkpoints of a cell, at the ends of epochs

Cell = tuple[str, int]  # the row's name and the seed
Progress = Callable[[float], None]  # called with the fraction that is done, 0 to 1


def full_mnist() -> Mnist:
    """Return all of MNIST.

    Raises:
        UserError: it is not there.
    """
    try:
        return sources.load_full(paths.data_folder())
    except sources.FileProblem as problem:
        raise UserError(
            f"This table needs all of MNIST. Set KD_DATA_DIR to a folder that contains it. {problem}"
        ) from None


def path(table: str, cell: Cell, recipes: Sequence[Config]) -> Path:
    """Return the file of a cell, named by all recipes that its result depends on."""
    digest = hashlib.sha256(json.dumps([recipe.to_dict() for recipe in recipes]).encode()).hexdigest()[:8]
    return paths.cache_folder() / table / f"{cell[0]}-seed{cell[1]}-{digest}.json"


def train(experiment: Experiment, partial: Path, progress: Progress) -> float:
    """Train to the end, from the checkpoint ``partial`` if it exists.

    Returns:
        The processor time of the whole training, in seconds.
    """
    kept, before = _read_partial(partial)
    began, saved = time.process_time(), time.monotonic()
    for record in experiment.records(state=kept):
        progress(record.step / record.steps)
        if time.monotonic() - saved > KEEP and record.step < record.steps:
            saved = time.monotonic()
            assert experiment.training is not None
            save(partial, experiment.training.state(), seconds=before + time.process_time() - began)
    return round(before + time.process_time() - began, 1)


def finish(to: Path, cell: Cell, experiment: Experiment, progress: Progress) -> dict[str, Any]:
    """Train to the end, and store the cell with the test scores of each network.

    Args:
        to: the cell's file.
        cell: its row and seed.
        experiment: what to train.
        progress: called with the fraction that is done.
    """
    seconds = train(experiment, to.with_suffix(".partial"), progress)
    outcome = {
        "row": cell[0],
        "seed": cell[1],
        "config": experiment.config.to_dict(),
        "models": experiment.measures(None)["models"],
        "seconds": seconds,
    }
    keep(to, outcome)
    return outcome


def keep(to: Path, outcome: Mapping[str, Any]) -> None:
    """Store a cell's outcome and delete its checkpoint."""
    _write(to, lambda path: path.write_text(json.dumps(outcome)))
    to.with_suffix(".partial").unlink(missing_ok=True)


def save(to: Path, tensors: Mapping[str, Tensor], **metadata: float) -> None:
    """Store tensors as safetensors, with numbers as metadata."""
    contents = {key: value.cpu().contiguous() for key, value in tensors.items()}
    _write(to, lambda path: save_file(contents, path, {key: str(value) for key, value in metadata.items()}))


def _write(to: Path, write: Callable[[Path], Any]) -> None:
    temporary = to.with_name(to.name + ".tmp")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        os.replace(temporary, to)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"A result was not saved in {to.parent} ({getattr(error, 'strerror', None) or error}). What was "
            "saved before is kept; make room or change its permissions, then run the same command again."
        ) from None


def _read_partial(partial: Path) -> tuple[dict[str, Tensor] | None, float]:
    """Return a checkpoint's state and the processor time spent on it, in seconds."""
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
    """Compute all cells that are not stored yet, several at once, and return the outcomes of all in order.

    Args:
        cost: cell -> its approximate relative duration.
        where: returns a cell's file.
        work: computes and stores a cell; a function of a module, because other processes call it.
        progress: called with the fraction that is done.
        needs: returns the cells that must be stored before a cell can begin.
        workers: processes at once; one per core if None.
    """
    workers = workers or cores()
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
                    future.result()  # raises the worker's exception
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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles it
    torch.set_num_threads(1)


def _work(work: Callable[[str, int, Progress], Any], cell: Cell, news: Any) -> None:
    parent = os.getppid()

    def progress(share: float) -> None:
        if os.getppid() != parent:
            os._exit(1)  # the parent is gone
        news.put((cell, share))

    work(*cell, progress)


def about(outcomes: Sequence[Mapping[str, Any]], full_command: str, usual: int) -> dict[str, Any]:
    """Return the facts about a table: its command, epochs, seeds, processor time and machine.

    Args:
        outcomes: the table's cells.
        full_command: the command that makes the table with the usual number of seeds.
        usual: the usual number of seeds.
    """
    seeds = len({cell["seed"] for cell in outcomes})
    return {
        "command": command(full_command, seeds, usual),
        "epochs": outcomes[0]["config"]["epochs"],
        "seeds": seeds,
        "core_minutes": round(sum(cell["seconds"] for cell in outcomes) / 60, 1),
        "machine": machine(),
    }


def by_row(outcomes: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the cells of each row, ordered by seed."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for cell in outcomes:
        rows.setdefault(cell["row"], []).append(cell)
    return rows


def command(full_command: str, seeds: int, usual: int) -> str:
    """Return the command that makes a table with this many seeds, from the one for the usual number."""
    return full_command if seeds == usual else full_command.replace(" --json", f" --seeds {seeds} --json")


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the mean and the standard deviation (0 for one value).

    They are not rounded to what is shown: a number that is rounded twice may be off by one in its last digit.
    """
    return {
        "mean": round(statistics.mean(values), 6),
        "sd": round(statistics.stdev(values), 6) if len(values) > 1 else 0.0,
    }


def shown(statistic: Mapping[str, float], digits: int = 2, unit: str = "") -> str:
    """Format a spread() as "97.12 ± 0.10", or without deviation for one seed."""
    deviation = f" ± {rounded(statistic['sd'], digits)}" if statistic["sd"] else ""
    return f"{rounded(statistic['mean'], digits)}{deviation}{unit}"


def rounded(value: float, digits: int) -> str:
    """Return a number with ``digits`` decimals; halves are rounded up, away from zero."""
    step = decimal.Decimal(1).scaleb(-digits)
    return str(decimal.Decimal(repr(value)).quantize(step, decimal.ROUND_HALF_UP))


def machine() -> str:
    """Return a description of this machine: cores, processor and PyTorch version."""
    return f"{cores()} cores, {platform.machine()}, torch {torch.__version__}"


def stored(file: Path, command: str) -> dict[str, Any] | None:
    """Return a stored table, or None if there is none.

    Raises:
        UserError: the file is damaged.
    """
    try:
        return json.loads(file.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        if why := hindrance(error):
            raise UserError(f"The stored table {file.name} cannot be read ({why}).") from None
        raise UserError(
            f"The stored table {file.name} is damaged. Restore it, or make it again with: {command}"
        ) from None
