"""Choose the device that training runs on, and tell how much of the machine this process may use."""

from __future__ import annotations

import functools
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

from kd.errors import UserError

if TYPE_CHECKING:  # kd/__init__.py asks for cores() before torch is imported
    import torch

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")


def training_device() -> torch.device:
    """Return ``$KD_DEVICE`` if it is set, otherwise a GPU if there is one, otherwise the CPU.

    Raises:
        UserError: ``$KD_DEVICE`` is not a device that this machine can compute on.
    """
    import torch

    if name := os.environ.get("KD_DEVICE"):
        return _usable(name)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@functools.cache
def _usable(name: str) -> torch.device:
    """Return the device called ``name``, after computing something on it."""
    import torch

    try:
        device = torch.device(name)
        torch.ones(1, device=device).add_(1).item()
        return device
    except (RuntimeError, AssertionError, ImportError, NotImplementedError, ValueError, TypeError):
        raise UserError(
            f"KD_DEVICE is {name[:40]!r}, on which PyTorch cannot compute here. Set it to cpu, to cuda or "
            "cuda:1 for a GPU, or unset it."
        ) from None


def cores() -> int:
    """Return how many CPU cores this process may use, at least 1.

    A container or a service may have a quota of processor time, which limits them as its affinity does; a
    part of a core counts as one.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *map(math.ceil, _quotas())]))


def _quotas() -> list[float]:
    """Return the processor time of each control group of this process with a quota, in cores."""
    found = []
    for group in control_groups("cpu"):
        try:
            if (group / "cpu.max").exists():
                quota, period = (group / "cpu.max").read_text().split()
            else:
                quota, period = (
                    (group / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period")
                )
            if quota not in ("max", "-1"):
                found.append(int(quota) / int(period))
        except (OSError, ValueError, ZeroDivisionError):
            pass  # the root has no such file
    return found


def control_groups(controller: str) -> list[Path]:
    """Return the folders of the Linux control groups that limit this process, from the root down.

    Each group is limited by those above it. A container sees its own group as the root.

    Args:
        controller: the name of the controller in version 1 of control groups; version 2 has one hierarchy.
    """
    try:
        lines = [line.split(":", 2) for line in OWN_CGROUPS.read_text().splitlines()]
    except OSError:
        lines = []
    own = {name: path for _, names, path in filter(_is_whole, lines) for name in names.split(",")}
    groups = []
    for root, path in ((CGROUPS, own.get("", "/")), (CGROUPS / controller, own.get(controller, "/"))):
        group = root
        groups.append(group)
        for part in Path(path).parts[1:]:
            group = group / part
            groups.append(group)
    return [group for group in groups if group.is_dir()]


def _is_whole(line: list[str]) -> bool:
    return len(line) == 3
