"""Import a visitor's own weights: check them first, then store them like a run.

Only safetensors files are read; they hold numbers and no code that could run.
"""

from __future__ import annotations

import json
import math
import re

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from kd import permissions
from kd.config.imported import ImportConfig
from kd.data import digits
from kd.device import training_device
from kd.errors import UserError
from kd.metrics import classification
from kd.models import inference, registry
from kd.store import quota, runs
from kd.teachers.averaged import MeanTeacher
from kd.teachers.cached import CachedTeacher

MAX_BYTES = 32 * 1024 * 1024  # the largest network that can be built here has 28 MB
_MAX_HEADER_BYTES = 1024 * 1024
_NOT_SAFETENSORS = "This is not a safetensors file, or it is damaged. Choose another one."


def read(content: bytes) -> tuple[str, nn.Module]:
    """Return the architecture that a safetensors file belongs to, and the network with its weights.

    Raises:
        UserError: the file is not safetensors, is too large, or does not hold the finite float32
            weights of a known network.
    """
    if len(content) > MAX_BYTES:
        raise UserError(
            f"The file is {len(content) / 1e6:,.0f} MB; no network in this program needs more than "
            f"{MAX_BYTES / 1e6:,.0f} MB. Choose another file."
        )
    shapes = _shapes(content)
    name = recognized(shapes)
    if name is None:
        raise UserError(
            "These are not the weights of a network that this program knows: the names and shapes in the "
            "file match none of its architectures, nor an MLP with up to "
            f"{registry.MAX_LAYERS} hidden layers. Build the network with kd.models.registry.build and save "
            "its state_dict()."
        )
    try:
        state = load(content)
    except (SafetensorError, ValueError, RuntimeError, KeyError):
        raise UserError(_NOT_SAFETENSORS) from None
    return name, registry.with_weights(name, state, "The file")


def _shapes(content: bytes) -> dict[str, tuple[int, ...]]:
    """Return name -> shape from the file's header alone, so that nothing is allocated for false claims."""
    refused = UserError(f"{_NOT_SAFETENSORS} (Pickled files such as .pt are never read: they can run code.)")
    size = int.from_bytes(content[:8], "little") if len(content) > 8 else 0
    if not 2 <= size <= min(_MAX_HEADER_BYTES, len(content) - 8):
        raise refused
    try:
        header = json.loads(content[8 : 8 + size])
        shapes = {}
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            shape, dtype = tuple(entry["shape"]), entry["dtype"]
            if dtype != "F32" and not (dtype == "I64" and name.endswith("num_batches_tracked")):
                raise UserError(
                    f"The weights {name[:60]!r} have the type {str(dtype)[:10]}; save the network in float32."
                )
            if (
                not all(type(length) is int and 0 <= length <= MAX_BYTES for length in shape)
                or math.prod(shape) > MAX_BYTES
            ):
                raise refused
            shapes[name] = shape
        return shapes
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise refused from None


def recognized(shapes: dict[str, tuple[int, ...]]) -> str | None:
    """Return the architecture whose weights have these names and shapes, or None."""
    for name in registry.ARCHITECTURES:
        if shapes == _shapes_of(name):
            return name
    widths = [
        shapes[key][0]
        for key in sorted(shapes, key=_layer_number)
        if re.fullmatch(r"\d{1,2}\.weight", key) and len(shapes[key]) == 2
    ][:-1]
    if not 1 <= len(widths) <= registry.MAX_LAYERS:
        return None
    if not all(1 <= width <= registry.MAX_WIDTH for width in widths):
        return None
    own = registry.own_name(tuple(widths))
    return own if shapes == _shapes_of(own) else None


def _shapes_of(architecture: str) -> dict[str, tuple[int, ...]]:
    state = registry.skeleton(architecture).state_dict()
    return {key: tuple(value.shape) for key, value in state.items()}


def _layer_number(key: str) -> int:
    """Return the number at the start of a weight's name, or -1."""
    number = key.split(".")[0]
    return int(number) if number.isdecimal() and len(number) < 5 else -1


def store(
    content: bytes,
    role: str,
    name: str,
    mnist: digits.Mnist,
    reference: CachedTeacher | MeanTeacher,
    owner: str | None,
) -> runs.Run:
    """Check a network's weights, measure it on the test set and store it as a run.

    Args:
        content: a safetensors file.
        role: what the network is used as, "student" or "teacher".
        name: the run's name.
        mnist: the data.
        reference: the teacher to compare the network with.
        owner: the digest of the owner's token.

    Raises:
        UserError: the file or the name cannot be used, there is no room, the disk refuses, or only the
            presenter may import networks.
    """
    permissions.check(owner, "import networks")
    quota.check()
    architecture, model = read(content)
    config = ImportConfig(network=architecture, role=role)
    test = mnist.to(training_device()).test
    logits: dict[str, Tensor] = {
        role: inference.logits_in_chunks(model.to(training_device()), test.inputs(), 512)
    }
    reference_logits = reference.logits(test)
    logits.setdefault("teacher", reference_logits)
    measures = {
        "seconds": 0.0,
        "steps": 0,
        "source": mnist.source,
        "data": mnist.digest,
        "train_images": 0,
        "test_images": len(test),
        "device": str(test.labels.device),
        "versions": {"torch": torch.__version__, "torchvision": torchvision.__version__},
        "models": {
            name: classification.scores(outputs, test.labels, reference_logits)
            for name, outputs in logits.items()
        },
    }
    return runs.save(runs.new_id(), config, "done", [], {role: model}, measures, owner, name=name)
