"""Import a visitor's own weights: check them first, then store them like a run.

Only safetensors files are read, alone or in a zip as kd.export.formats makes it; they hold numbers and no
code that could run.
"""

from __future__ import annotations

import io
import json
import math
import zipfile

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
from kd.export.recognition import plain_names, recognized
from kd.metrics import classification
from kd.models import inference, registry
from kd.store import quota, runs
from kd.teachers import doubts
from kd.teachers.averaged import MeanTeacher
from kd.teachers.cached import CachedTeacher

MAX_BYTES = 32 * 1024 * 1024  # the largest network that can be built here has 28 MB
SUFFIXES = (".safetensors", ".zip")
_MAX_HEADER_BYTES = 1024 * 1024
_FLOATS = ("F32", "F16", "BF16")
_NOT_SAFETENSORS = "This is not a safetensors file, or it is damaged. Choose another one."
_PICKLED = "(Pickled files such as .pt are never read: they can run code.)"


def read(content: bytes) -> tuple[str, nn.Module]:
    """Return the architecture that weights belong to, and the network with them.

    Args:
        content: a safetensors file, or a zip with one, as kd.export.formats.export() makes it. Weights may be
            float32, float16 or bfloat16, and their names may have the prefixes of kd.export.recognition.

    Raises:
        UserError: the file is neither, is too large, or does not hold the finite weights of a known network.
    """
    claimed = None
    if content[:4] == b"PK\x03\x04":
        content, claimed = _unzipped(content)
    if len(content) > MAX_BYTES:
        raise _too_large(len(content))
    shapes, named = _shapes(content)
    names = plain_names(list(shapes))
    name = recognized({names[key]: shape for key, shape in shapes.items()}, claimed or named)
    if name is None or len(set(names.values())) < len(names):
        raise UserError(
            "These are not the weights of a network that this program knows: the names and shapes in the "
            "file match none of its architectures, compressed or not, nor an MLP with up to "
            f"{registry.MAX_LAYERS} hidden layers. Build the network with kd.models.registry.build and save "
            "its state_dict()."
        )
    try:
        state = load(content)
    except (SafetensorError, ValueError, RuntimeError, KeyError):
        raise UserError(_NOT_SAFETENSORS) from None
    weights = {
        names[key]: value.float() if value.is_floating_point() else value for key, value in state.items()
    }
    return name, registry.with_weights(name, weights, "The file")


def name_of(file: str) -> str:
    """Return the name of a run that is imported from a file: that of the file, as far as it fits."""
    for suffix in SUFFIXES:
        file = file.removesuffix(suffix)
    return file[: runs.NAME_LENGTH]


def _too_large(size: int) -> UserError:
    return UserError(
        f"The file is {size / 1e6:,.0f} MB; no network in this program needs more than "
        f"{MAX_BYTES / 1e6:,.0f} MB. Choose another file."
    )


def _unzipped(content: bytes) -> tuple[bytes, str | None]:
    """Return the safetensors file in a zip, and the architecture that the zip names.

    Raises:
        UserError: it is damaged, or does not hold exactly one safetensors file.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
            weights = [name for name in names if name.endswith(".safetensors")]
            if len(weights) == 1:
                return _member(archive, weights[0]), _named_in_zip(archive)
    except UserError:
        raise
    except Exception:  # noqa: BLE001 - damaged archives raise nearly anything
        raise UserError("This zip is damaged, or it needs a password. Choose another file.") from None
    if any(name.endswith(".pkl") for name in names):
        raise UserError(f"{_NOT_SAFETENSORS} {_PICKLED}")
    raise UserError(
        f"This zip holds {len(weights) or 'no'} safetensors files; exactly one is needed. Export the network "
        "in the format safetensors, and import that."
    )


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Return a file of a zip, whose size may be false, without reading more than MAX_BYTES."""
    with archive.open(name) as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise _too_large(max(len(content), archive.getinfo(name).file_size))
    return content


def _named_in_zip(archive: zipfile.ZipFile) -> str | None:
    """Return the architecture in a zip's model.json; None if there is none."""
    descriptions = [name for name in archive.namelist() if name.endswith("model.json")]
    if len(descriptions) != 1:
        return None
    try:
        named = json.loads(_member(archive, descriptions[0]))["architecture"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return named if isinstance(named, str) else None


def _shapes(content: bytes) -> tuple[dict[str, tuple[int, ...]], str | None]:
    """Return name -> shape of a file's weights, and the architecture that it names.

    They come from the header alone, so that nothing is allocated for false claims.
    """
    refused = UserError(f"{_NOT_SAFETENSORS} {_PICKLED}")
    size = int.from_bytes(content[:8], "little") if len(content) > 8 else 0
    if not 2 <= size <= min(_MAX_HEADER_BYTES, len(content) - 8):
        raise refused
    try:
        header = json.loads(content[8 : 8 + size])
        named = (header.pop("__metadata__", None) or {}).get("architecture")
        shapes = {}
        for name, entry in header.items():
            shape, dtype = tuple(entry["shape"]), entry["dtype"]
            if dtype not in _FLOATS and not (dtype == "I64" and name.endswith("num_batches_tracked")):
                raise UserError(
                    f"The weights {name[:60]!r} have the type {str(dtype)[:10]}; save the network in "
                    "float32, float16 or bfloat16."
                )
            if (
                not all(type(length) is int and 0 <= length <= MAX_BYTES for length in shape)
                or math.prod(shape) > MAX_BYTES
            ):
                raise refused
            shapes[name] = shape
        return shapes, named if isinstance(named, str) else None
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise refused from None


def store(
    content: bytes,
    role: str,
    name: str,
    mnist: digits.Mnist,
    reference: CachedTeacher | MeanTeacher,
    owner: str | None,
) -> runs.Run:
    """Store a visitor's network as a run; see add().

    Raises:
        UserError: as for add(), or there is no room, or only the presenter may import networks.
    """
    permissions.check(owner, "import networks")
    quota.check()
    return add(content, role, name, mnist, reference, owner)


def add(
    content: bytes,
    role: str,
    name: str,
    mnist: digits.Mnist,
    reference: CachedTeacher | MeanTeacher,
    owner: str | None = None,
) -> runs.Run:
    """Check a network's weights, measure it on the test set and store it as a run.

    The run's message says if nothing useful can be learned from a teacher.

    Args:
        content: a safetensors file, or a zip with one.
        role: what the network is used as, "student" or "teacher".
        name: the run's name.
        mnist: the data.
        reference: the teacher to compare the network with.
        owner: the digest of the owner's token; None: imported from the command line.

    Raises:
        UserError: the file or the name cannot be used, or the disk refuses.
    """
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
    doubt = doubts.about(logits[role], name) if role == "teacher" else ""
    return runs.save(
        runs.new_id(), config, "done", [], {role: model}, measures, owner, name=name, message=doubt
    )
