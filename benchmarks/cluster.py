"""What 100,000 runs on 100 machines like this one would take, with its arithmetic: python benchmarks/cluster.py

Measured on a Ray cluster of this machine alone: a group's seconds on one core, what Ray adds to a task, and what it takes until
the first tasks run. Estimated from these: the rest. Not measured: a network between machines, for which 1 Gbit/s is assumed.
"""

from __future__ import annotations

import math
import os
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch  # noqa: E402

from kd.config.grid import GridConfig  # noqa: E402
from kd.sweeps import cluster, grid  # noqa: E402
from kd.tables import cells  # noqa: E402
from kd.teachers import catalogue  # noqa: E402

RUNS, MACHINES = 100_000, 100
EMPTY = 200  # tasks without work
ROUNDS = 3


def main() -> None:
    config, mnist, taught_by, cores = (
        GridConfig(seeds=1),
        cells.full_mnist(),
        catalogue.load("cnn"),
        os.cpu_count() or 1,
    )
    (group,) = grid.groups(config)
    shared = cluster.packed(mnist, taught_by, config)
    size = sum(
        array.nbytes
        for part in shared["mnist"].values()
        for array in part.values()
        if hasattr(array, "nbytes")
    )
    size += sum(table.nbytes for table in shared["logits"].values())

    began = time.perf_counter()
    with cluster.connected("") as ray:
        work, empty = ray.remote(num_cpus=1)(cluster.work), ray.remote(num_cpus=1)(nothing)
        there = ray.put(shared)
        ray.get([empty.remote([there]) for _ in range(cores)])
        start = time.perf_counter() - began
        overheads, seconds = [], []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            ray.get([empty.remote([there]) for _ in range(EMPTY)])
            overheads.append((time.perf_counter() - began) * cores / EMPTY)
            began = time.perf_counter()
            ray.get(
                [work.remote([there], config.to_dict(), 0) for _ in range(cores)]
            )  # all cores busy, as in a sweep
            seconds.append(time.perf_counter() - began)
    each, overhead = statistics.median(seconds), statistics.median(overheads)
    tasks, at_once = math.ceil(RUNS / len(group.cells)), MACHINES * cores
    rounds = math.ceil(tasks / at_once)
    sending, dealing = MACHINES * size * 8 / 1e9, tasks * overhead / cores
    whole = start + sending + max(rounds * (each + overhead), dealing)
    print(
        f"{cells.machine()}; a group: {len(group.cells)} mlp-30 together, {config.epochs} epochs of {len(mnist.train):,} images, one core\n"
        f"a group takes {each:.2f} s (median of {ROUNDS}), Ray adds {1e3 * overhead:.1f} ms a task, the first task begins after {start:.1f} s, all share {size / 1e6:.0f} MB\n"
        f"{RUNS:,} runs / {len(group.cells)} = {tasks:,} tasks; {MACHINES} machines x {cores} cores = {at_once} at once; {rounds} rounds\n"
        f"{rounds} x ({each:.2f} + {overhead:.4f}) s = {rounds * (each + overhead):.0f} s of work (dealing out {tasks:,} tasks from one place: {dealing:.0f} s, meanwhile)\n"
        f"+ {start:.0f} s to start + {MACHINES} x {size / 1e6:.0f} MB at 1 Gbit/s, one after the other = {sending:.0f} s\n"
        f"= {whole:.0f} s, about {whole / 60:.0f} minutes; one core alone: {tasks * each / 3600:.1f} hours"
    )


def nothing(shared: list) -> None:
    """A task that gets all that a group gets, and does nothing with it."""
    import ray

    torch.set_num_threads(1)
    cluster.unpacked(ray.get(shared[0]))


if __name__ == "__main__":
    main()
