"""Train a sweep's groups as tasks of a Ray cluster, each on whichever node is free.

The computations are the same as on one machine. The data and the teacher's logits are put into the
cluster's object store once, and each node fetches them once. A task whose node or process dies is
repeated elsewhere. A group yields a record as soon as it ends, so that the caller can store it. Only
this module needs Ray, so Ray is imported when a cluster is used.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from kd import paths
from kd.data.digits import Digits, Mnist
from kd.device import cores
from kd.errors import UserError
from kd.objectives import METHODS
from kd.sweeps import sweep_groups
from kd.sweeps.sweep import Sweep, SweepRecord, SweepTraining
from kd.sweeps.sweep_cells import Group
from kd.sweeps.sweep_groups import LogitsTeacher, Outcome
from kd.sweeps.sweep_weights import Weights
from kd.training import clock
from kd.training.loop import every_epoch

RETRIES = 4  # of a task that fails or whose node dies
TIMEOUT = 15.0  # seconds in which a cluster has to answer
STORE = 200_000_000  # bytes of shared memory for tasks, on a cluster of our own; all of MNIST is 62 MB

PARTS = ("train", "validation", "test")


class ClusterSweep(Sweep):
    """A Sweep whose groups train on a Ray cluster.

    Args:
        like: the same sweep for one machine.
        address: of the cluster's head, such as 10.0.0.5:6379, or "auto" on one of its machines; empty
            for a cluster of this machine alone.
        gpus: the share of a GPU that each task reserves, 0 to 1; with 0, tasks train on the CPU.

    Raises:
        UserError: ``gpus`` is out of range.
    """

    def __init__(self, like: Sweep, address: str = "", gpus: float = 0.0):
        if not 0 <= gpus <= 1:
            raise UserError("The share of a GPU that a task reserves must be between 0 and 1.")
        super().__init__(like.config, like.mnist, like.reference)
        self._address, self._gpus = address, gpus

    def _training(self) -> ClusterTraining:
        return ClusterTraining(
            self.config,
            self.mnist,
            self.teacher,
            self._before,
            self._weights,
            lambda: connected(self._address),
            self._gpus,
        )


class ClusterTraining(SweepTraining):
    """The trainings of all groups at once, each on a free node."""

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

    def records(self, due: Callable[[int], bool] = every_epoch) -> Generator[SweepRecord, None, None]:
        """Yield one record per group, in the order in which they end.

        Raises:
            UserError: the cluster cannot be reached, or a group failed on every try. It is raised after
                all other groups have ended.
        """
        yield from self._report_earlier()
        before, started, failed = self.seconds, clock.now(), None
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
                    outcomes, weights = ray.get(done)
                except ray.exceptions.RayError as error:
                    failed = error
                    continue
                self.keep(outcomes, {name: torch.tensor(value) for name, value in weights.items()})
                self.seconds = before + clock.now() - started
                yield self._ended(group, outcomes)
        if failed:
            raise UserError(reason(failed)) from failed

    def _ended(self, group: Group, outcomes: list[Outcome]) -> SweepRecord:
        finite = [(str(i), outcome) for i, outcome in enumerate(outcomes) if "diverged" not in outcome]
        images = self._cell_steps * self._config.batch_size * len(outcomes)
        return SweepRecord(
            step=self.step,
            steps=self.steps,
            epoch=self.step / self.steps,
            seconds=self.seconds,
            images_per_second=images / sum(outcome["seconds"] for outcome in outcomes),
            losses={},
            train_accuracy={},
            validation_accuracy={name: outcome["validation_accuracy"] for name, outcome in finite},
            whole_validation=True,
            fidelity={f"agreement {name}": outcome["validation_agreement"] for name, outcome in finite},
            group=group.index,
            own_step=self._cell_steps,
            outcomes=tuple(outcomes),
        )

    def restore(self, state: Mapping[str, Tensor]) -> None:
        # A group that another engine had begun starts again.
        super().restore(
            {key: value for key, value in state.items() if key.startswith(("outcome.", "cell.", "seconds."))}
        )


# -- data for the tasks ------------------------------------------------------------------------


def packed(mnist: Mnist, teacher: Any, config: Any) -> dict[str, Any]:
    """Return the data as arrays, which a node's processes share, and the teacher as its logits.

    For methods that use the teacher's hidden layers, the whole teacher is included.
    """
    parts = {name: getattr(mnist, name) for name in PARTS}
    arrays = {
        name: {key: getattr(digits, key).cpu().numpy() for key in ("images", "labels", "ids")}
        | {"file": digits.file, "data": digits.data}
        for name, digits in parts.items()
    }
    if any(METHODS[method].feature_view for method in config.values("method")):
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
    """Return the data and the teacher from what packed() returned."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the arrays are read-only, and nobody writes to them
        parts = []
        for name in PARTS:
            arrays = shared["mnist"][name]
            images, labels, ids = (torch.from_numpy(arrays[key]) for key in ("images", "labels", "ids"))
            parts.append(Digits(images, labels, ids, arrays["file"], data=arrays["data"]))
        teacher = shared.get("teacher")
        if teacher is None:
            teacher = LogitsTeacher(
                {file: torch.from_numpy(logits) for file, logits in shared["logits"].items()}
            )
    train, validation, test = parts
    return Mnist(train, validation, test, shared["source"]), teacher


def work(
    shared: list[Any], config: Mapping[str, Any], index: int, gpu: bool = False
) -> tuple[list[Outcome], dict[str, Any]]:
    """Train one group from start to end, as a task of the cluster.

    A task uses one thread, and a GPU only if it has reserved one.

    Returns:
        The outcomes of the group's cells, and the kept weights as arrays.
    """
    import ray

    torch.set_num_threads(1)
    os.environ["KD_DEVICE"] = "cuda" if gpu else "cpu"
    weights: Weights = {}
    outcomes = sweep_groups.run_group(config, index, *unpacked(ray.get(shared[0])), weights=weights)
    return outcomes, {name: value.numpy() for name, value in weights.items()}


# -- the cluster ---------------------------------------------------------------------------------


@contextlib.contextmanager
def connected(address: str) -> Iterator[Any]:
    """Connect to the cluster at ``address``, or to a temporary one of this machine's cores.

    Raises:
        UserError: Ray is not installed, or the cluster cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report over the network
    # Ray would print the last log lines of nodes that die.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    try:
        import ray
    except ImportError:
        raise UserError(
            "The engine ray needs the package Ray. Install it with: pip install -r requirements-ray.txt"
        ) from None
    # Nodes get this version of the package, without what only the app needs.
    package = {"py_modules": [str(paths.PACKAGE)], "excludes": ["ui", "weights", "lab", "__pycache__"]}
    try:
        if address and address != "auto":
            _reach(address)
        if address:
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR, runtime_env=package)
        else:
            ray.init(
                "local",
                log_to_driver=False,
                logging_level=logging.ERROR,
                num_cpus=cores(),
                object_store_memory=STORE,
                include_dashboard=False,
            )
    except (ConnectionError, OSError, RuntimeError, ValueError, subprocess.SubprocessError) as error:
        raise UserError(
            f"No Ray cluster can be reached at {address or 'this machine'}: {_first_line(error)}. "
            "Start one with: ray start --head; see the README."
        ) from None
    try:
        if ray.cluster_resources().get("CPU", 0) < 1:
            raise UserError(
                "The Ray cluster has no CPU. Add a machine to it with: ray start --address=HEAD:6379"
            )
        yield ray
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Check that a cluster answers. Ray itself would try for two minutes and then end this process."""
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdigit():
        raise ValueError("an address is written like 10.0.0.5:6379")
    socket.create_connection((host, int(port)), TIMEOUT / 4).close()
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        check = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=TIMEOUT)
        healthy = check.returncode == 0
    except subprocess.TimeoutExpired:
        healthy = False
    if not healthy:
        raise ConnectionError("another program or another version of Ray answers there")


def reason(error: Exception) -> str:
    """Explain in a sentence why a task failed."""
    where = re.search(r"ip=([\d.]+)", str(error))
    machine = f"The machine {where[1]}" if where else "A machine"
    kept = "The groups that had ended are kept."
    if missing := re.search(r"No module named '([\w.]+)'", str(error)):
        return (
            f"{machine} lacks the package {missing[1]}. Install requirements.txt on each machine, with the "
            f"same Python, and continue with --resume. {kept}"
        )
    cause = getattr(error, "cause", None) or error
    if isinstance(cause, UserError):
        return str(cause)
    return (
        f"{machine} failed {RETRIES + 1} times at a group of cells: {_first_line(cause)}. "
        f"{kept} Continue with --resume."
    )


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200].rstrip(".")
