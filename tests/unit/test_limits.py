"""Tests of a container's limits of processor time and memory, in both versions of control groups."""

import importlib
import os

import pytest
import torch

import kd
from kd import device
from kd.training import memory

CPU = torch.device("cpu")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Return a function that writes files of a machine with 8 cores and 64 GB, most of it free."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr(device, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(device, "OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    (tmp_path / "meminfo").write_text("MemTotal:       64000000 kB\nMemAvailable:   62500000 kB\n")
    (tmp_path / "own").write_text("0::/\n")
    (tmp_path / "cgroup").mkdir()

    def write(**files):
        for name, content in files.items():
            path = tmp_path / name.replace("__", "/").replace("DOT", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{content}\n")

    return write


# -- cores -------------------------------------------------------------------------------------


def test_cores_are_those_of_the_machine_without_a_quota(machine):
    assert device.cores() == 8
    machine(cgroup__cpuDOTmax="max 100000")
    assert device.cores() == 8


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("200000 100000", 2), ("150000 100000", 2), ("20000 100000", 1), ("1600000 100000", 8)],
)
def test_cores_follow_the_quota_of_a_container(machine, quota, expected):
    machine(cgroup__cpuDOTmax=quota)
    assert device.cores() == expected


def test_cores_follow_the_quota_of_version_1(machine):
    machine(own="4:memory:/docker/a\n1:cpu,cpuacct:/docker/a")
    machine(cgroup__cpu__cpuDOTcfs_quota_us=-1, cgroup__cpu__cpuDOTcfs_period_us=100000)
    assert device.cores() == 8
    machine(cgroup__cpu__cpuDOTcfs_quota_us=300000)
    assert device.cores() == 3, "a container sees its own group as the root, whatever its name outside"


def test_cores_follow_the_smallest_quota_above_the_process(machine):
    machine(own="0::/system.slice/kd.service")
    machine(
        **{
            "cgroup__system.slice__cpuDOTmax": "400000 100000",
            "cgroup__system.slice__kd.service__cpuDOTmax": "max 100000",
        }
    )
    assert device.cores() == 4


@pytest.mark.parametrize("content", ["", "many 100000", "200000 0", "1"])
def test_cores_ignore_an_unreadable_quota(machine, content):
    machine(cgroup__cpuDOTmax=content)
    assert device.cores() == 8


@pytest.mark.parametrize(("allowed", "own", "expected"), [(2, None, "2"), (2, "5", "5"), (64, None, None)])
def test_openmp_gets_as_many_threads_as_the_quota_allows(monkeypatch, allowed, own, expected):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(device, "cores", lambda: allowed)
    monkeypatch.setenv("OMP_NUM_THREADS", own or "")
    if own is None:
        monkeypatch.delenv("OMP_NUM_THREADS")
    importlib.reload(kd)
    assert os.environ.get("OMP_NUM_THREADS") == expected


# -- memory ------------------------------------------------------------------------------------


def test_memory_is_the_machines_without_a_limit(machine):
    machine(cgroup__memoryDOTmax="max", cgroup__memoryDOTcurrent=10**9)
    assert memory.available(CPU) == 64_000_000_000


def test_cached_files_count_as_free_memory_of_a_container(machine):
    machine(cgroup__memoryDOTmax=1_700_000_000, cgroup__memoryDOTcurrent=1_683_000_000)
    assert memory.available(CPU) == 17_000_000
    machine(cgroup__memoryDOTstat="anon 300000000\ninactive_file 1200000000\nactive_file 100000000")
    assert memory.available(CPU) == 1_217_000_000


def test_cached_files_count_as_free_memory_in_version_1(machine):
    machine(own="4:memory:/docker/a")
    machine(
        cgroup__memory__memoryDOTlimit_in_bytes=1_700_000_000,
        cgroup__memory__memoryDOTusage_in_bytes=1_683_000_000,
        cgroup__memory__memoryDOTstat="inactive_file 5\ntotal_inactive_file 1200000000",
    )
    assert memory.available(CPU) == 1_217_000_000


def test_memory_follows_the_smallest_limit_above_the_process(machine):
    machine(own="0::/a/b")
    machine(cgroup__a__memoryDOTmax=2_000_000_000, cgroup__a__memoryDOTcurrent=500_000_000)
    machine(cgroup__a__b__memoryDOTmax="max", cgroup__a__b__memoryDOTcurrent=400_000_000)
    assert memory.available(CPU) == 1_500_000_000


def test_memory_ignores_unreadable_statistics(machine):
    machine(cgroup__memoryDOTmax=2_000_000_000, cgroup__memoryDOTcurrent=500_000_000)
    machine(cgroup__memoryDOTstat="inactive_file\nmany")
    assert memory.available(CPU) == 1_500_000_000
