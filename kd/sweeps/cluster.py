"""A grid's groups as tasks of a Ray cluster: the same computations as on one machine, each on whichever node is free.

The data and the teacher's answers are put into the cluster's object store once, and each node fetches them once. A task
whose node or process dies is done again elsewhere. What a group came to is a record as soon as it ends, so that the caller
can keep it. Ray is not needed by anything else, and so is imported here when it is asked for.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from kd import paths
from kd.data.digits import Digits, Mnist
from kd.errors import UserError
from kd.objectives import METHODS
from kd.sweeps import grid
from kd.sweeps.grid import Grid, GridRecord, Groups, Outcome, Table
from kd.sweeps.grid_weights import Weights
from kd.training.loop import every_epoch

RETRIES = 4  # of a task whose node dies or that fails
REACH = 15.0  # seconds in which a cluster has to answer
STORE = 200_000_000  # bytes of memory for what tasks share, on a cluster of one's own; all of MNIST is 62 MB

PARTS = ("train", "validation", "test")


class ClusterGrid(Grid):
    """A Grid whose groups train on a Ray cluster.

    Args:
        address: of its head, such as 10.0.0.5:6379, or "auto" on one of its machines; empty: a cluster of this machine alone.
        gpus: the share of a GPU that each task takes for itself; 0: tasks train on the CPU.
    """

    def __init__(self, like: Grid, address: str = "", gpus: float = 0.0):
        if not 0 <= gpus <= 1:
            raise UserError("The share of a GPU that a task takes must be between 0 and 1.")
        super().__init__(like.config, like.mnist, like.reference)
        self._address, self._gpus = address, gpus

    def _training(self) -> Spread:
        return Spread(
            self.config,
            self.mnist,
            self.teacher,
            self._before,
            self._weights,
            lambda: connected(self._address),
            self._gpus,
        )


class Spread(Groups):
    """Groups that are done all at once, by whoever is free."""

    def __init__(
        self,
        config: Any,
        mnist: Mnist,
        teacher: Any,
        before: list[Outcome],
        weights: Weights,
        connect: Callable[[], Any],
        gpus: float,
    ):
        super().__init__(config, mnist, teacher, before, weights)
        self._config, self._connect, self._gpus = config, connect, gpus

    def records(self, due: Callable[[int], bool] = every_epoch) -> Generator[GridRecord, None, None]:
        """One record for each group, in the order in which they end.

        Raises:
            UserError: the cluster cannot be reached, or a group failed again and again. All others are done before that is told.
        """
        yield from self._taken_over()
        before, started, failed = self.seconds, time.perf_counter(), None
        with self._connect() as ray:
            task = ray.remote(num_cpus=1, num_gpus=self._gpus, max_retries=RETRIES, retry_exceptions=True)(
                work
            )
            shared = ray.put(packed(self._mnist, self._teacher, self._config))
            running = {
                task.remote([shared], self._config.to_dict(), group.index, self._gpus > 0): group
                for group in self.pending
            }
            while running:
                (done,), _ = ray.wait(list(running))
                group = running.pop(done)
                try:
                    found, weights = ray.get(done)
                except ray.exceptions.RayError as error:
                    failed = error
                    continue
                self.keep(found, {name: torch.tensor(value) for name, value in weights.items()})
                self.seconds = before + time.perf_counter() - started
                yield self._ended(group, found)
        if failed:
            raise UserError(reason(failed)) from failed

    def _ended(self, group: grid.Group, found: list[Outcome]) -> GridRecord:
        sound = [(str(i), outcome) for i, outcome in enumerate(found) if "diverged" not in outcome]
        images = self._each * self._config.batch_size * len(found)
        return GridRecord(
            self.step,
            self.steps,
            self.step / self.steps,
            self.seconds,
            images / sum(outcome["seconds"] for outcome in found),
            {},
            {},
            {name: outcome["validation_accuracy"] for name, outcome in sound},
            True,
            {f"agreement {name}": outcome["validation_agreement"] for name, outcome in sound},
            group.index,
            tuple(found),
        )

    def restore(self, state: Mapping[str, Tensor]) -> None:
        # A group that another engine had begun is begun anew.
        super().restore(
            {key: value for key, value in state.items() if key.startswith(("outcome.", "cell.", "seconds."))}
        )


# -- what travels ------------------------------------------------------------------------------


def packed(mnist: Mnist, teacher: Any, config: Any) -> dict[str, Any]:
    """The data as arrays, which the processes of a node read where they lie, and the teacher as its logits.

    Methods that look at the teacher's hidden layers get all of it.
    """
    parts = {name: getattr(mnist, name) for name in PARTS}
    arrays = {
        name: {key: getattr(digits, key).cpu().numpy() for key in ("images", "labels", "ids")}
        | {"file": digits.file}
        for name, digits in parts.items()
    }
    if any(METHODS[method].looks for method in config.values("method")):
        return {"mnist": arrays, "source": mnist.source, "teacher": teacher}
    logits = {file: torch.zeros(rows, mnist.task.classes) for file, rows in mnist.task.rows.items()}
    for digits in parts.values():
        logits[digits.file][digits.ids.cpu()] = teacher.logits(digits).cpu()
    return {
        "mnist": arrays,
        "source": mnist.source,
        "logits": {file: table.numpy() for file, table in logits.items()},
    }


def unpacked(shared: Mapping[str, Any]) -> tuple[Mnist, Any]:
    """The data and who teaches."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the arrays cannot be written to, which nobody does
        parts = [
            Digits(*(torch.from_numpy(arrays[key]) for key in ("images", "labels", "ids")), arrays["file"])
            for arrays in map(shared["mnist"].get, PARTS)
        ]
        teacher = shared.get("teacher") or Table(
            {file: torch.from_numpy(logits) for file, logits in shared["logits"].items()}
        )
    return Mnist(*parts, shared["source"]), teacher


def work(
    shared: list[Any], config: Mapping[str, Any], index: int, gpu: bool = False
) -> tuple[list[Outcome], dict[str, Any]]:
    """A task: one group from start to end, with one thread, and on a GPU only where it has declared one. Its outcomes, and the weights that are kept as arrays."""
    import ray

    torch.set_num_threads(1)
    os.environ["KD_DEVICE"] = "cuda" if gpu else "cpu"
    weights: Weights = {}
    found = grid.run_group(config, index, *unpacked(ray.get(shared[0])), weights=weights)
    return found, {name: value.numpy() for name, value in weights.items()}


# -- the cluster ---------------------------------------------------------------------------------


@contextlib.contextmanager
def connected(address: str) -> Iterator[Any]:
    """Ray, connected to the cluster at ``address``; without one, to a cluster of this machine's cores that ends with it.

    Raises:
        UserError: Ray is not installed, or there is no cluster to reach.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report over the network
    os.environ.setdefault(
        "RAY_DEDUP_LOGS_SKIP_REGEX", "."
    )  # it would print the last words of nodes that die, to stdout
    try:
        import ray
    except ImportError:
        raise UserError(
            "The engine ray needs the package Ray; install it by: pip install -r requirements-ray.txt"
        ) from None
    alone = {"num_cpus": os.cpu_count(), "object_store_memory": STORE, "include_dashboard": False}
    # Whatever version of this package the nodes have: they get this one, without what only the app needs.
    package = {"py_modules": [str(paths.PACKAGE)], "excludes": ["ui", "weights", "lab", "__pycache__"]}
    try:
        if address and address != "auto":
            _reach(address)
        ray.init(
            address or "local",
            log_to_driver=False,
            logging_level="ERROR",
            runtime_env=package if address else None,
            **({} if address else alone),
        )
    except (ConnectionError, OSError, RuntimeError, ValueError, subprocess.SubprocessError) as error:
        raise UserError(
            f"There is no Ray cluster to reach at {address or 'this machine'}: {_first_line(error)}. Start one by: ray start --head; see the README."
        ) from None
    try:
        if ray.cluster_resources().get("CPU", 0) < 1:
            raise UserError(
                "The Ray cluster has no CPU to offer; add a machine to it by: ray start --address=HEAD:6379"
            )
        yield ray
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Sees that a cluster answers. Ray itself would try for two minutes, and then end this process."""
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdigit():
        raise ValueError("an address is written like 10.0.0.5:6379")
    socket.create_connection((host, int(port)), REACH / 4).close()
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        healthy = (
            subprocess.run(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=REACH
            ).returncode
            == 0
        )
    except subprocess.TimeoutExpired:
        healthy = False
    if not healthy:
        raise ConnectionError("something else answers there, or another version of Ray")


def reason(error: Exception) -> str:
    """Why a task failed, in a sentence."""
    where = re.search(r"ip=([\d.]+)", str(error))
    machine = f"The machine {where[1]}" if where else "A machine"
    kept = "What had ended is kept."
    if missing := re.search(r"No module named '([\w.]+)'", str(error)):
        return f"{machine} lacks the package {missing[1]}; install requirements.txt on each, with the same Python, and go on with --resume. {kept}"
    cause = getattr(error, "cause", None) or error
    if isinstance(cause, UserError):
        return str(cause)
    return f"{machine} failed {RETRIES + 1} times at a group of cells: {_first_line(cause)}. {kept} Go on with --resume."


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200].rstrip(".")
