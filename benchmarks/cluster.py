"""Estimate how long 100,000 runs would take on 100 machines like this one: python benchmarks/cluster.py

Measured on a Ray cluster of this machine alone: a group's seconds on one core, Ray's overhead per task,
and the time until the first tasks run. The rest is computed from these. The network between machines is
not measured; 1 Gbit/s is assumed.
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

from kd.config.sweep import SweepConfig  # noqa: E402
from kd.sweeps import cluster, sweep_cells  # noqa: E402
from kd.tables import cells  # noqa: E402
from kd.teachers import catalogue  # noqa: E402

RUNS, MACHINES = 100_000, 100
EMPTY = 200  # tasks without work
ROUNDS = 3


def main() -> None:
    config, mnist, teacher = SweepConfig(seeds=1), cells.full_mnist(), catalogue.load("cnn")
    cores = os.cpu_count() or 1
    (group,) = sweep_cells.groups(config)
    shared = cluster.packed(mnist, teacher, config)
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
        stored = ray.put(shared)
        ray.get([empty.remote([stored]) for _ in range(cores)])
        start = time.perf_counter() - began
        overheads, seconds = [], []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            ray.get([empty.remote([stored]) for _ in range(EMPTY)])
            overheads.append((time.perf_counter() - began) * cores / EMPTY)
            began = time.perf_counter()
            # All cores are busy, as in a sweep.
            ray.get([work.remote([stored], config.to_dict(), 0) for _ in range(cores)])
            seconds.append(time.perf_counter() - began)
    each, overhead = statistics.median(seconds), statistics.median(overheads)
    tasks, at_once = math.ceil(RUNS / len(group.cells)), MACHINES * cores
    rounds = math.ceil(tasks / at_once)
    sending, dealing = MACHINES * size * 8 / 1e9, tasks * overhead / cores
    whole = start + sending + max(rounds * (each + overhead), dealing)
    images = f"{config.epochs} epochs of {len(mnist.train):,} images"
    lines = [
        f"{cells.machine()}; a group: {len(group.cells)} mlp-30 together, {images}, one core",
        f"a group takes {each:.2f} s (median of {ROUNDS}), Ray adds {1e3 * overhead:.1f} ms per task, "
        f"the first task begins after {start:.1f} s, all share {size / 1e6:.0f} MB",
        f"{RUNS:,} runs / {len(group.cells)} = {tasks:,} tasks; "
        f"{MACHINES} machines x {cores} cores = {at_once} at once; {rounds} rounds",
        f"{rounds} x ({each:.2f} + {overhead:.4f}) s = {rounds * (each + overhead):.0f} s of work "
        f"(meanwhile, distributing {tasks:,} tasks from one place takes {dealing:.0f} s)",
        f"+ {start:.0f} s to start + {MACHINES} x {size / 1e6:.0f} MB at 1 Gbit/s, one after the other "
        f"= {sending:.0f} s",
        f"= {whole:.0f} s, about {whole / 60:.0f} minutes; one core alone: {tasks * each / 3600:.1f} hours",
    ]
    print("\n".join(lines))


def nothing(shared: list) -> None:
    """Receive everything that a group receives, and do nothing with it."""
    import ray

    torch.set_num_threads(1)
    cluster.unpacked(ray.get(shared[0]))


if __name__ == "__main__":
    main()
