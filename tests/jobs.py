"""Helpers of the tests that start, command and watch jobs."""

from __future__ import annotations

import time

from kd.config.distil import DistilConfig
from kd.experiments.distil import Distillation
from kd.store import checkpoints
from tests.helpers import identical, small_teacher, wait_until, weights

ME, OTHER = "my token", "another token"
SHORT = DistilConfig(student="mlp-30", epochs=2, batch_size=100)  # 20 steps
MIDDLE = SHORT.replace(epochs=3, batch_size=20)  # 150 steps
LONG = SHORT.replace(epochs=200, batch_size=10)  # 20,000 steps: does not end by itself


def wait_for(manager, id, state):
    """Wait until a job is in ``state`` and return its snapshot; fail if it ends in another."""

    def reached():
        snap = manager.snapshot(id, ME)
        assert snap.active or snap.state == state, f"{snap.state}: {snap.message}"
        return snap if snap.state == state else None

    return wait_until(reached, state)


def wait_for_rows(manager, id, count=1):
    """Wait until a job has at least ``count`` rows and return its snapshot."""
    return wait_until(lambda: len((snap := manager.snapshot(id, ME)).rows) >= count and snap, "rows")


def settled(counted):
    """Return the number of steps once it has stopped growing."""
    while True:
        before = len(counted)
        time.sleep(0.25)
        if len(counted) == before:
            return before


def step(manager, id):
    """Press Step once and return the snapshot after it."""
    before = len(manager.snapshot(id).rows)
    manager.step(id, ME)
    return wait_until(
        lambda: (snap := manager.snapshot(id, ME)).state == "paused" and len(snap.rows) > before and snap,
        "a step",
    )


def step_row(manager, id):
    """Press Step once and return the step of the newest row, even if the number of rows does not grow."""
    before = manager.snapshot(id).version
    manager.step(id, ME)
    snap = wait_until(
        lambda: (snap := manager.snapshot(id)).state == "paused" and snap.version > before + 1 and snap,
        "a step",
    )
    return snap.rows[-1]["step"]


def directly(config, mnist):
    """Return the weights that a config gives without the worker, by network."""
    running = Distillation(config, mnist, small_teacher())
    for _ in running.records():
        pass
    return {name: weights(model) for name, model in running.trained.items()}


def same_as(run, expected):
    """Return whether a stored run has the expected weights, by network."""
    return all(identical(run.model(which), values) for which, values in expected.items())


def pause_after(manager, config, steps=3):
    """Start a run, make some steps, and return its id once it is paused and has a checkpoint."""
    id = manager.start(config, ME, paused=True)
    wait_for(manager, id, "paused")
    for _ in range(steps):
        step(manager, id)
    wait_until(lambda: checkpoints.exists(id) and len(checkpoints.load(id).rows) == steps, "a checkpoint")
    return id
