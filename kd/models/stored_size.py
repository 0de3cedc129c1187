"""Measure what storing a network takes: weights and bytes, also when zipped."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass

from safetensors.torch import save
from torch import Tensor, nn


@dataclass(frozen=True)
class StoredSize:
    """The size of a stored network.

    Attributes:
        parameters: weights that must be stored.
        nonzero: weights that are not 0.
        file_bytes: size of the network as a safetensors file.
        zipped_bytes: size of that file when zipped.
    """

    parameters: int
    nonzero: int
    file_bytes: int
    zipped_bytes: int


def stored_size(model: nn.Module) -> StoredSize:
    """Return the size of ``model`` by writing it to memory."""
    content, zipped = to_safetensors(model), io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.safetensors", content)
    weights = [weight.dequantize() if _is_int8(weight) else weight for weight in model.parameters()]
    return StoredSize(
        parameters=sum(weight.numel() for weight in weights),
        nonzero=sum(int((weight != 0).sum()) for weight in weights),
        file_bytes=len(content),
        zipped_bytes=len(zipped.getvalue()),
    )


def to_safetensors(model: nn.Module) -> bytes:
    """Return the weights as a safetensors file. An int8 weight is stored as its integers and its scales."""
    tensors: dict[str, Tensor] = {}
    for key, value in model.state_dict().items():
        if _is_int8(value):
            parts = value.__tensor_flatten__()[0]
            tensors |= {f"{key}.{part}": getattr(value, part) for part in parts}
        else:
            tensors[key] = value
    return save({key: value.detach().cpu().contiguous() for key, value in tensors.items()})


def _is_int8(weight: Tensor) -> bool:
    """Return whether ``weight`` is a quantized tensor of torchao, which consists of several tensors."""
    return hasattr(weight, "__tensor_flatten__")
