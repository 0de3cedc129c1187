"""Grids on a real Ray cluster of two nodes, of which one dies in the middle: nothing is lost, and the outcomes are those of one machine."""

import json
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch

from kd import __main__ as cli
from kd import checkpoints, cluster, data, grid, runs, teacher
from kd.cluster import ClusterGrid
from kd.errors import UserError
from kd.grid import Grid
from kd.grid_config import GridConfig
from tests.helpers import Given, small_teacher, wait_until

SMALL = GridConfig(student="mlp-30", temperature="1,4", soft_weight="0.5,1", seeds=8, epochs=40, batch_size=100)


def told(outcomes):
    """What cells came to, but for the time that it took."""
    return {i: {key: value for key, value in outcome.items() if key != "seconds"} for i, outcome in sorted(outcomes.items())}


@pytest.fixture
def one_thread():
    """As the tasks have: with more, matrix products may round otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# -- with Ray -----------------------------------------------------------------------------


@pytest.fixture
def two_nodes(monkeypatch):
    """Ray's own cluster utility, with two nodes of one processor each."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    pytest.importorskip("ray", reason="NOT TESTED: the engine ray; install it by: pip install -r requirements-ray.txt")
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 150_000_000, "include_dashboard": False}
    found = Cluster(initialize_head=True, head_node_args=node)
    try:
        found.second = found.add_node(num_cpus=1, object_store_memory=150_000_000)
        yield found
    finally:
        found.shutdown()


@pytest.mark.cluster
def test_a_node_that_dies_in_mid_sweep_loses_nothing(two_nodes, mnist, one_thread):
    import ray

    here = Grid(SMALL, mnist, small_teacher())
    list(here.records())
    there = ClusterGrid(Grid(SMALL, mnist, small_teacher()), two_nodes.address)
    records = there.records()
    first = next(records)
    (victim,) = [node["NodeID"] for node in ray.nodes() if node["NodeID"] == two_nodes.second.node_id]
    wait_until(lambda: not ray.available_resources().get("CPU"), "both nodes have a task")
    two_nodes.remove_node(two_nodes.second, allow_graceful=False)
    state = there.training.state()
    rest = list(records)
    assert sorted(record.group for record in [first, *rest]) == list(range(SMALL.seeds)), "a group is missing, or was done twice"
    assert not ray.is_initialized()
    assert told(there.training.outcomes) == told(here.training.outcomes), "to the bit"
    assert [record.step for record in rest] == sorted(record.step for record in rest) and rest[-1].step == rest[-1].steps

    # What was kept when the node died goes on without the groups that had ended: on one machine too.
    again = Grid(SMALL, mnist, small_teacher())
    began = {record.group for record in again.records(state=state)}
    assert first.group not in began and told(again.training.outcomes) == told(here.training.outcomes)
    # And on the cluster, of which one node is left; a task that fails is done by nobody.
    lost = ClusterGrid(Grid(SMALL, mnist, small_teacher()), two_nodes.address)
    assert victim not in [node["NodeID"] for node in _alive(two_nodes)]
    monkeypatched = cluster.work
    try:
        cluster.work = _without_package
        with pytest.raises(UserError, match=r"The machine [\d.]+ lacks the package package_that_nobody_has; install requirements.txt on each"):
            list(lost.records(state=state))
    finally:
        cluster.work = monkeypatched
    assert first.group not in [group.index for group in lost.training.pending] and lost.training.pending
