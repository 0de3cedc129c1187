"""Whether a training fits into the memory that there is, asked before it takes any."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from kd.data.task import MNIST
from kd.errors import UserError

#: Copies of a network's weights in a training: itself, its gradient, the optimizer's two moments, those of the last record, those
#: that pages predict from.
COPIES = 6
#: How often what the layers put out is held at a step. Measured peaks over the sum of outputs: 0.9 (mlp-128) to 1.4 (cnn-tiny).
OUTPUTS = 1.3
#: The control groups' files, of both versions, in which Linux writes a container's limit and what it uses.
_GROUPS = [("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")]


def needed(networks: Sequence[nn.Module], images: int) -> int:
    """Bytes, about, that a training of ``networks`` on batches of ``images`` takes at its peak."""
    weights = sum(
        value.numel() * value.element_size()
        for network in networks
        for value in network.state_dict().values()
    )
    return round(COPIES * weights + OUTPUTS * images * sum(map(_outputs, networks)))


def _outputs(network: nn.Module) -> int:
    """Bytes that the layers of ``network`` put out for one image."""
    found: list[int] = []
    handles = [
        layer.register_forward_hook(
            lambda layer, inputs, output: found.append(output.numel() * output.element_size())
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
    return sum(found)


def available(device: torch.device) -> int | None:
    """Bytes that can still be taken on ``device``; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = [int(lines["MemAvailable"].split()[0]) * 1024]
    except (OSError, KeyError, ValueError):
        return None
    for limit, used in _GROUPS:  # a container may have less than its machine
        try:
            free.append(
                int(Path("/sys/fs/cgroup", limit).read_text()) - int(Path("/sys/fs/cgroup", used).read_text())
            )
        except (OSError, ValueError):
            pass
    return max(0, min(free))


def check(networks: Sequence[nn.Module], images: int, device: torch.device) -> None:
    """Refuses a training that would not fit.

    Raises:
        UserError: and says what to do.
    """
    there = available(device)
    if there is not None and (takes := needed(networks, images)) > there:
        raise UserError(
            f"This training would take about {_size(takes)} of memory, and {_size(there)} are free; choose a smaller student or a smaller batch size."
        )


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def ran_out(error: BaseException) -> bool:
    """Whether ``error`` says that memory was asked for and not there."""
    said = str(error)
    return (
        isinstance(error, (MemoryError, torch.OutOfMemoryError))
        or isinstance(error, RuntimeError)
        and ("can't allocate memory" in said or "not enough memory" in said or "out of memory" in said)
    )


RAN_OUT = "The memory did not suffice for this training; choose a smaller student or a smaller batch size."
