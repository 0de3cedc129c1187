"""A trained model as a file that someone can deploy.

What is exported takes pixels as kd.drawing.preprocess prepares them, (N, 28, 28) uint8, and
returns logits, (N, 10) float32: normalization is part of the file. Every file is
loaded again by what will run it, and compared with the model, before it is given out.
"""

from __future__ import annotations

import copy
import io
import json
import logging
import tempfile
import threading
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from kd import paths
from kd.data.digits import MEAN, STD, Digits
from kd.errors import UserError
from kd.models import inference, registry

#: A picture of one digit, light ink on dark or dark on light, even paper.
SCRIPT = paths.EXPORT_SCRIPT
_exporting = threading.Lock()  # PyTorch's exporter is not made for several threads at once
TOLERANCE = 1e-3  # the most that an exported model's logits may differ from the model's


class FromPixels(nn.Module):
    """``model`` with the normalization that it was trained with in front of it."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        """(N, 28, 28) uint8 -> (N, 10) logits."""
        return self.model((pixels.unsqueeze(1).float() / 255 - MEAN) / STD)


@dataclass(frozen=True)
class Exported:
    """A file, and how far its logits are from the model's on the images that it was tried on."""

    name: str
    content: bytes
    difference: float  # largest absolute difference of a logit
    images: int


Run = Callable[[np.ndarray], np.ndarray]  # pixels (N, 28, 28) uint8 -> logits (N, 10)


# -- formats ---------------------------------------------------------------------------


def _own_copy(model: nn.Module) -> nn.Module:
    """What is given to the exporter: while it traces, it puts tensors without values in the place of the weights, and others may be asking the model."""
    return FromPixels(copy.deepcopy(model)).eval().cpu()


def to_onnx(model: nn.Module) -> bytes:
    """The model as ONNX: input ``pixels`` (N, 28, 28) uint8, output ``logits`` (N, 10) float32; any N."""
    with _exporting, tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the exporter's own future
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            _own_copy(model),
            (torch.zeros(2, 28, 28, dtype=torch.uint8),),
            path,
            input_names=["pixels"],
            output_names=["logits"],
            dynamic_shapes=[{0: torch.export.Dim("N")}],
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        return path.read_bytes()


def run_onnx(content: bytes, threads: int = 0) -> Run:
    """The model in ONNX Runtime. ``threads``: of the CPU; 0 for all."""
    import onnxruntime  # slow to import

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda pixels: session.run(["logits"], {"pixels": pixels})[0]


def to_torch_export(model: nn.Module) -> bytes:
    """The model as a file of torch.export, which runs without this program's code."""
    pixels, content = torch.zeros(2, 28, 28, dtype=torch.uint8), io.BytesIO()
    with _exporting, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that no tensor is "complete": weights in channels_last are views
        program = torch.export.export(
            _own_copy(model), (pixels,), dynamic_shapes=[{0: torch.export.Dim("N")}]
        )
        torch.export.save(program, content)
    return content.getvalue()


def run_torch_export(content: bytes) -> Run:
    program = torch.export.load(io.BytesIO(content)).module()

    def run(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return program(torch.from_numpy(pixels)).numpy()

    return run


def to_safetensors(model: nn.Module) -> bytes:
    """The weights alone."""
    return save_safetensors({name: value.cpu().contiguous() for name, value in model.state_dict().items()})


def description(architecture: str) -> dict[str, Any]:
    """What stands beside the weights: enough to build the network and to feed it."""
    return {
        "architecture": architecture,
        "layers": repr(registry.skeleton(architecture)),
        "input": "pixels (N, 28, 28) uint8, light ink on black, longer side 20, centre of mass in the middle",
        "normalization": {"scale": 1 / 255, "mean": MEAN, "std": STD, "then": "(N, 1, 28, 28) float32"},
        "output": "logits (N, 10) of the digits 0 to 9",
    }


def run_safetensors(content: bytes, architecture: str) -> Run:
    model = registry.skeleton(architecture).to_empty(device="cpu")
    model.load_state_dict(load_safetensors(content))
    whole = FromPixels(model).eval()

    def run(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return whole(torch.from_numpy(pixels)).numpy()

    return run


FORMATS = {
    "onnx": "ONNX: for ONNX Runtime, in any language and in browsers",
    "safetensors": "safetensors with a json of architecture and preprocessing: for PyTorch code of your own",
    "pt2": "torch.export: runs in PyTorch without this program's code",
}


# -- one file to give out ----------------------------------------------------------------


def export(model: nn.Module, architecture: str, format: str, digits: Digits) -> Exported:
    """The model as a zip in one of FORMATS, loaded again and compared on ``digits``.

    Raises:
        UserError: the file answers otherwise than the model, so that it is not given out.
    """
    files: dict[str, bytes] = {}
    if format == "onnx":
        files = {"model.onnx": to_onnx(model), "classify.py": SCRIPT.read_bytes()}
        run = run_onnx(files["model.onnx"])
    elif format == "safetensors":
        files = {
            "model.safetensors": to_safetensors(model),
            "model.json": json.dumps(description(architecture), indent=1).encode(),
        }
        run = run_safetensors(files["model.safetensors"], architecture)
    elif format == "pt2":
        files = {"model.pt2": to_torch_export(model)}
        run = run_torch_export(files["model.pt2"])
    else:
        raise UserError(f"There is no format called {format[:40]!r}; choose one of {', '.join(FORMATS)}.")
    difference = compare(run, model, digits)
    if not difference < TOLERANCE:
        raise UserError(
            f"The {format} file's logits differ from the model's by {difference:.2g}, so it is not given out. Choose another format."
        )
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, file in files.items():
            archive.writestr(name, file)
    return Exported(f"{architecture}-{format}.zip", content.getvalue(), difference, len(digits))


def compare(run: Run, model: nn.Module, digits: Digits) -> float:
    """The largest absolute difference of a logit between ``run`` and ``model`` on ``digits``."""
    ours = inference.logits_in_chunks(model.cpu(), digits.inputs().cpu(), 512).numpy()
    theirs = np.concatenate([run(part.cpu().numpy()) for part in digits.images.split(512)])
    return float(np.abs(ours - theirs).max())


def part(exported: Exported, name: str) -> bytes:
    """One file of an export's zip."""
    with zipfile.ZipFile(io.BytesIO(exported.content)) as archive:
        return archive.read(name)
