"""Check that a training fits into memory before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from kd.data.task import MNIST
from kd.device import control_groups
from kd.errors import UserError

#: Copies of a network's weights that a training holds: the network, its gradient, the optimizer's
#: two moments, the weights of the last record, and those that pages predict from.
WEIGHT_COPIES = 6
#: Memory for the layers' outputs, as a multiple of their total size. The measured peak was 0.9 (mlp-128)
#: to 1.4 (cnn-tiny) times that size.
OUTPUT_COPIES = 1.3
MEMINFO = Path("/proc/meminfo")
#: The files in which Linux control groups, of both versions, state a container's limit and use, and the
#: line of memory.stat with what the system would free at once: files that were read and not used lately.
CGROUP_FILES = [
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
]

OUT_OF_MEMORY = (
    "There is not enough memory for this training; choose a smaller student or a smaller batch size."
)


def needed(networks: Sequence[nn.Module], images: int) -> int:
    """Estimate the peak memory of training ``networks`` together, in bytes.

    Args:
        images: the batch size.
    """
    weights = sum(
        value.numel() * value.element_size()
        for network in networks
        for value in network.state_dict().values()
    )
    return round(WEIGHT_COPIES * weights + OUTPUT_COPIES * images * sum(map(_output_bytes, networks)))


def _output_bytes(network: nn.Module) -> int:
    """Return the bytes of all layers' outputs for one image."""
    sizes: list[int] = []
    handles = [
        layer.register_forward_hook(
            lambda layer, inputs, output: sizes.append(output.numel() * output.element_size())
        )
        for layer in network.modules()
        if not list(layer.children())
    ]
    was_training = network.training
    try:
        with torch.inference_mode():
            network.eval()(next(network.parameters()).new_zeros(1, *MNIST.image_shape))
    finally:
        network.train(was_training)
        for handle in handles:
            handle.remove()
    return sum(sizes)


def available(device: torch.device) -> int | None:
    """Return the free bytes on ``device``, or None if the system does not report them."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = dict(line.split(":") for line in MEMINFO.read_text().splitlines())
        free = [int(lines["MemAvailable"].split()[0]) * 1024]
    except (OSError, KeyError, ValueError):
        return None
    for group in control_groups("memory"):  # a container may have less than its machine
        for files in CGROUP_FILES:
            try:
                free.append(_free_in(group, *files))
            except (OSError, ValueError):
                pass  # the root has no such file, and a group may have no limit
    return max(0, min(free))


def _free_in(group: Path, limit: str, used: str, reclaimable: str) -> int:
    """Return the free bytes of a control group, with what can be freed at once.

    Raises:
        OSError: a file is missing.
        ValueError: there is no limit.
    """
    free = int((group / limit).read_text()) - int((group / used).read_text())
    try:
        statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return free + int(statistics.get(reclaimable, 0))
    except (OSError, ValueError):
        return free


def check(networks: Sequence[nn.Module], images: int, device: torch.device) -> None:
    """Check that a training of ``networks`` on batches of ``images`` fits into memory.

    Raises:
        UserError: there is not enough free memory; the message says what to change.
    """
    free = available(device)
    need = needed(networks, images)
    if free is not None and need > free:
        raise UserError(
            f"This training needs about {_format_size(need)} of memory, "
            f"but only {_format_size(free)} are free; choose a smaller student or a smaller batch size."
        )


def _format_size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def ran_out(error: BaseException) -> bool:
    """Return whether ``error`` means that memory could not be allocated."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    message = str(error)
    signs = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, RuntimeError) and any(sign in message for sign in signs)
