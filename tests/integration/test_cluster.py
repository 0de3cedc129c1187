"""Sweeps on a real Ray cluster of two nodes, one of which dies: the outcomes equal those of one machine."""

import json
import socket
import sys
import time

import pytest
import torch

from kd import paths
from kd.cli import main as cli
from kd.config.sweep import SweepConfig
from kd.data import sources
from kd.errors import UserError
from kd.sweeps import cluster, sweep_groups
from kd.sweeps.cluster import ClusterSweep
from kd.sweeps.sweep import Sweep
from kd.teachers import catalogue
from tests.helpers import Given, identical, small_teacher, wait_until

SMALL = SweepConfig(
    student="mlp-30", temperature="1,4", soft_weight="0.5,1", seeds=6, epochs=40, batch_size=100
)


def results(outcomes):
    """Return the outcomes of cells without their times."""
    return {
        i: {key: value for key, value in outcome.items() if key != "seconds"}
        for i, outcome in sorted(outcomes.items())
    }


def a_teacher():
    """Return a teacher whose logits are bitwise the same in any order of images."""
    return small_teacher("linear")


@pytest.fixture
def one_thread():
    """One thread, as tasks have: with more, matrix products may round differently."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# -- with Ray -----------------------------------------------------------------------------


@pytest.fixture
def two_nodes(monkeypatch):
    """Ray's own cluster utility, with two nodes of one processor each."""
    for name, value in {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS_SKIP_REGEX": "."}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    pytest.importorskip(
        "ray", reason="NOT TESTED: the engine ray; install it by: pip install -r requirements-ray.txt"
    )
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 150_000_000, "include_dashboard": False}
    found = Cluster(initialize_head=True, head_node_args=node)
    try:
        found.second = found.add_node(num_cpus=1, object_store_memory=150_000_000)
        yield found
    finally:
        found.shutdown()


@pytest.mark.cluster
def test_node_that_dies_during_a_sweep_loses_nothing(two_nodes, mnist, one_thread, monkeypatch):
    import ray

    here = Sweep(SMALL, mnist, a_teacher())
    list(here.records())
    there = ClusterSweep(Sweep(SMALL, mnist, a_teacher()), two_nodes.address)
    records = there.records()
    first = next(records)
    wait_until(lambda: not ray.available_resources().get("CPU"), "both nodes have a task")
    two_nodes.remove_node(two_nodes.second, allow_graceful=False)
    kept = there.training.state()
    rest = list(records)
    assert sorted(record.group for record in [first, *rest]) == list(range(SMALL.seeds)), (
        "a group is missing, or came twice"
    )
    assert results(there.training.outcomes) == results(here.training.outcomes), "bitwise equal"
    assert identical(there.tensors["cells"], here.tensors["cells"]), "the networks come back"
    assert [record.step for record in rest] == sorted(record.step for record in rest)
    assert rest[-1].step == rest[-1].steps
    assert not ray.is_initialized(), "still connected after the end"

    # The state at the node's death resumes on one machine too, without the group that had ended.
    again = Sweep(SMALL, mnist, a_teacher())
    began = {record.group for record in again.records(state=kept)}
    assert first.group not in began
    assert results(again.training.outcomes) == results(here.training.outcomes)

    def without_package(*_):
        import package_that_nobody_has  # noqa: F401

    monkeypatch.setattr(cluster, "work", without_package)
    lost = ClusterSweep(Sweep(SMALL, mnist, a_teacher()), two_nodes.address)
    with pytest.raises(
        UserError,
        match=r"The machine [\d.]+ lacks the package package_that_nobody_has. Install requirements.txt",
    ):
        list(lost.records(state=kept))
    expected = results(here.training.outcomes)
    first_cell = first.group * 5
    assert results(lost.training.outcomes) == {i: expected[i] for i in range(first_cell, first_cell + 5)}


# -- without a cluster --------------------------------------------------------------------------


@pytest.fixture
def run(home, monkeypatch, mnist, capsys):
    """The command line, with little data and a small teacher."""
    monkeypatch.setattr(sources, "Source", lambda: Given(mnist))
    monkeypatch.setattr(catalogue, "load", lambda name, device="cpu": a_teacher())

    def call(*arguments):
        code = cli.main(
            [
                "sweep",
                "--temperature",
                "1,4",
                "--soft-weight",
                "1",
                "--seeds",
                "2",
                "--epochs",
                "1",
                *arguments,
            ]
        )
        return code, *capsys.readouterr()

    return call


@pytest.mark.parametrize(
    "address, message",
    [
        ("127.0.0.1:1", "No Ray cluster can be reached at 127.0.0.1:1: [Errno 111] Connection refused."),
        (
            "somewhere",
            "No Ray cluster can be reached at somewhere: an address is written like 10.0.0.5:6379.",
        ),
        ("ray://10.0.0.5:10001", "an address is written like 10.0.0.5:6379."),
        ("auto", "No Ray cluster can be reached at auto: Could not find any running Ray instance."),
    ],
)
def test_unreachable_cluster_is_reported_at_once(run, address, message, monkeypatch):
    pytest.importorskip(
        "ray", reason="NOT TESTED: the engine ray; install it by: pip install -r requirements-ray.txt"
    )
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    began = time.monotonic()
    code, out, err = run("--engine", "ray", "--address", address)
    assert (code, out) == (2, "") and message in err
    assert "Start one with: ray start --head; see the README." in err
    assert time.monotonic() - began < 20


def test_other_program_at_the_address_is_reported_in_time(run, monkeypatch):
    pytest.importorskip(
        "ray", reason="NOT TESTED: the engine ray; install it by: pip install -r requirements-ray.txt"
    )
    monkeypatch.setattr(cluster, "TIMEOUT", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        code, _, err = run("--engine", "ray", "--address", f"127.0.0.1:{mute.getsockname()[1]}")
    assert code == 2 and "another program or another version of Ray answers there" in err


def test_missing_ray_is_reported_with_the_install_command(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, err = run("--engine", "ray")
    assert code == 2
    assert "The engine ray needs the package Ray. Install it with: pip install -r requirements-ray.txt" in err


def test_cluster_options_need_the_ray_engine(run):
    assert run("--address", "10.0.0.5:6379")[0] == 2 and "add --engine ray" in run("--gpus", "0.5")[2]
    assert "must be between 0 and 1" in run("--engine", "ray", "--gpus", "nan")[2]


def test_finished_cells_survive_an_interruption(run, monkeypatch):
    """The checkpoint has a group's outcomes as soon as it ends, and no group is repeated."""
    began, real = [], sweep_groups.start

    def start(group, *others):
        if len(began) == 1:
            raise KeyboardInterrupt
        began.append(group.index)
        return real(group, *others)

    monkeypatch.setattr(sweep_groups, "start", start)
    code, _, err = run()
    (id,) = [path.name.removesuffix(".checkpoint") for path in paths.home().glob("*.checkpoint")]
    assert code == 130 and f"--resume {id}" in err
    monkeypatch.setattr(
        sweep_groups, "start", lambda group, *others: began.append(group.index) or real(group, *others)
    )
    assert json.loads(run("--resume", id, "--json")[1])["run"] == id and began == [0, 1]


def test_data_and_logits_survive_packing(mnist):
    teacher = a_teacher()
    there, taught = cluster.unpacked(cluster.packed(mnist, teacher, SMALL))
    for ours, theirs in ((mnist.train, there.train), (mnist.test, there.test)):
        assert torch.equal(ours.images, theirs.images) and torch.equal(ours.labels, theirs.labels)
        assert torch.equal(taught.logits(theirs), teacher.logits(ours))
    whole = cluster.unpacked(cluster.packed(mnist, teacher, SMALL.replace(method="hinton,pkt")))[1]
    assert whole is teacher, "methods that use hidden layers need the whole teacher"
