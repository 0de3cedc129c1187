"""A visitor's own weights: checked before anything is done with them, then stored like a run.

Only safetensors files are read, which hold numbers and nothing that could be run.
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
_HEADER = 1024 * 1024


def read(content: bytes) -> tuple[str, nn.Module]:
    """The architecture that a safetensors file's weights are of, and the network with them.

    Raises:
        UserError: it is no such file, is too large, or holds anything but one known network's finite float32 weights.
    """
    if len(content) > MAX_BYTES:
        raise UserError(
            f"The file has {len(content) / 1e6:,.0f} MB, and no network of this program has more than {MAX_BYTES / 1e6:,.0f}; choose another."
        )
    shapes = _shapes(content)
    name = recognized(shapes)
    if name is None:
        raise UserError(
            "These are not the weights of a network that this program knows: the names and shapes in the file are of none of its architectures, nor of an MLP "
            f"with up to {registry.MAX_LAYERS} hidden layers. Build the network by kd.models.build and save its state_dict()."
        )
    try:
        state = load(content)
    except (SafetensorError, ValueError, RuntimeError, KeyError):
        raise UserError("This is no safetensors file, or it is damaged; choose another.") from None
    return name, registry.with_weights(name, state, "The file")


def _shapes(content: bytes) -> dict[str, tuple[int, ...]]:
    """Name -> shape, from the file's header alone: nothing is allocated for what it claims to hold."""
    refused = UserError(
        "This is no safetensors file, or it is damaged; choose another. (Pickled files such as .pt are never read: they can run code.)"
    )
    size = int.from_bytes(content[:8], "little") if len(content) > 8 else 0
    if not 2 <= size <= min(_HEADER, len(content) - 8):
        raise refused
    try:
        header = json.loads(content[8 : 8 + size])
        found = {}
        for name, about in header.items():
            if name == "__metadata__":
                continue
            shape = tuple(about["shape"])
            if about["dtype"] != "F32" and not (
                about["dtype"] == "I64" and name.endswith("num_batches_tracked")
            ):
                raise UserError(
                    f"The weights {name[:60]!r} are of type {str(about['dtype'])[:10]}; save the network in float32."
                )
            if (
                not all(type(length) is int and 0 <= length <= MAX_BYTES for length in shape)
                or math.prod(shape) > MAX_BYTES
            ):
                raise refused
            found[name] = shape
        return found
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise refused from None


def recognized(shapes: dict[str, tuple[int, ...]]) -> str | None:
    """The architecture whose weights have these names and shapes, or None."""
    for name in registry.ARCHITECTURES:
        if shapes == {key: tuple(value.shape) for key, value in registry.skeleton(name).state_dict().items()}:
            return name
    widths = [
        shapes[key][0]
        for key in sorted(shapes, key=_place)
        if re.fullmatch(r"\d{1,2}\.weight", key) and len(shapes[key]) == 2
    ][:-1]
    if not 1 <= len(widths) <= registry.MAX_LAYERS or not all(
        1 <= width <= registry.MAX_WIDTH for width in widths
    ):
        return None
    own = registry.own_name(tuple(widths))
    return (
        own
        if shapes == {key: tuple(value.shape) for key, value in registry.skeleton(own).state_dict().items()}
        else None
    )


def _place(key: str) -> int:
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
    """Checks, measures on the test set and stores a network.

    Args:
        role: "student" or "teacher": as what it is used.
        name: of the run.
        reference: the teacher that it is held against.
        owner: the digest of the owner's token.

    Raises:
        UserError: the file or the name cannot be used, there is no room, the disk refuses, or only the presenter may.
    """
    permissions.check(owner, "import networks")
    quota.check()
    architecture, model = read(content)
    config = ImportConfig(network=architecture, role=role)
    test = mnist.to(training_device()).test
    answers: dict[str, Tensor] = {
        role: inference.logits_in_chunks(model.to(training_device()), test.inputs(), 512)
    }
    taught = reference.logits(test)
    answers.setdefault("teacher", taught)
    measures = {
        "seconds": 0.0,
        "steps": 0,
        "source": mnist.source,
        "data": mnist.digest,
        "train_images": 0,
        "test_images": len(test),
        "device": str(test.labels.device),
        "versions": {"torch": torch.__version__, "torchvision": torchvision.__version__},
        "models": {who: classification.scores(said, test.labels, taught) for who, said in answers.items()},
    }
    return runs.save(runs.new_id(), config, "done", [], {role: model}, measures, owner, name=name)
