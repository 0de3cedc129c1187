"""Export a trained model to a file for deployment.

An exported model takes pixels as kd.drawing.preprocess prepares them, (N, 28, 28) uint8, and
returns logits, (N, 10) float32: the file includes the normalization. Every file is loaded by the
runtime that it is for, and its logits are compared with the model's, before it is handed out.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import tempfile
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from kd import paths
from kd.data.digits import Digits
from kd.data.task import MNIST
from kd.drawing.familiarity import Familiar
from kd.errors import UserError
from kd.models import inference, registry

#: Files of this program that exports come with, unchanged: how a picture becomes the pixels that a network
#: takes, and which pixels are not those of one digit.
PREPROCESSING = (paths.PACKAGE / "drawing" / "preprocess.py", paths.PACKAGE / "drawing" / "oddities.py")
_exporting = threading.Lock()  # PyTorch's exporter is not thread-safe
BATCHES = (1, 7, 512)  # the batch sizes on which every file is compared with the model
TOLERANCE = 1e-3  # largest allowed difference between the logits of the exported model and of the model


class FromPixels(nn.Module):
    """Put the normalization that ``model`` was trained with in front of it."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        """Map pixels (N, 28, 28) uint8 to logits (N, 10)."""
        return self.model((pixels.unsqueeze(1).float() / 255 - MNIST.mean[0]) / MNIST.std[0])


@dataclass(frozen=True)
class Exported:
    """An exported file and its largest difference from the model's logits on the test images."""

    name: str
    content: bytes
    difference: float  # largest absolute difference of a logit
    images: int  # number of images compared


LogitsFunction = Callable[[np.ndarray], np.ndarray]  # pixels (N, 28, 28) uint8 -> logits (N, 10)


@contextlib.contextmanager
def _plain_failures(format: str) -> Iterator[None]:
    """Turn any failure of an exporter or a runtime into a UserError that names the ``format``."""
    try:
        yield
    except UserError:
        raise
    except ImportError as error:
        missing = error.name or "a package"
        raise UserError(
            f"The {format} format needs {missing}, which is not installed here. Install it with `pip install "
            f"{missing}`, or choose another format."
        ) from error
    except Exception as error:  # noqa: BLE001 - exporters and runtimes raise nearly anything
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"This network cannot be exported as {format} ({lines[0][:120].rstrip('.')}). Choose another "
            "format."
        ) from error


# -- formats ---------------------------------------------------------------------------


def _own_copy(model: nn.Module) -> nn.Module:
    """Return a copy of the model for the exporter.

    While tracing, the exporter replaces the weights by tensors without values, and other threads
    may be using the model.
    """
    return FromPixels(copy.deepcopy(model)).eval().cpu()


def to_onnx(model: nn.Module, output: str = "logits") -> bytes:
    """Return the model as ONNX: input ``pixels`` (N, 28, 28) uint8, output ``logits`` (N, 10) float32.

    Args:
        model: a network, or any other module that takes normalized images.
        output: the name of the output.

    Raises:
        UserError: the network cannot be exported.
    """
    with (
        _plain_failures("onnx"),
        _exporting,
        tempfile.TemporaryDirectory() as folder,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # the exporter warns about its own deprecations
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            _own_copy(model),
            (torch.zeros(2, MNIST.height, MNIST.width, dtype=torch.uint8),),
            path,
            input_names=["pixels"],
            output_names=[output],
            dynamic_shapes=[{0: torch.export.Dim("N")}],
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        return path.read_bytes()


def digit_check(familiar: Familiar) -> bytes:
    """Return the test of what looks like a digit as ONNX, with the output ``unfamiliarity``, (N,) float32.

    Above 1, an image does not look like a digit.

    Raises:
        UserError: the teacher's network cannot be exported.
    """
    return to_onnx(familiar.network(), "unfamiliarity")


def run_onnx(content: bytes, threads: int = 0) -> LogitsFunction:
    """Load an ONNX file in ONNX Runtime, with this many CPU threads (0: all)."""
    import onnxruntime  # slow to import

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda pixels: session.run(None, {"pixels": pixels})[0]


def to_torch_export(model: nn.Module) -> bytes:
    """Return the model as a torch.export file, which runs without this program's code.

    Raises:
        UserError: the network cannot be exported.
    """
    pixels, content = torch.zeros(2, MNIST.height, MNIST.width, dtype=torch.uint8), io.BytesIO()
    with _plain_failures("pt2"), _exporting, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # weights in channels_last are views, which are not "complete"
        program = torch.export.export(
            _own_copy(model), (pixels,), dynamic_shapes=[{0: torch.export.Dim("N")}]
        )
        torch.export.save(program, content)
    return content.getvalue()


def run_torch_export(content: bytes) -> LogitsFunction:
    """Load a torch.export file."""
    program = torch.export.load(io.BytesIO(content)).module()

    def run(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return program(torch.from_numpy(pixels)).numpy()

    return run


def to_safetensors(model: nn.Module, architecture: str) -> bytes:
    """Return the model's weights as a safetensors file that names the architecture in its metadata."""
    weights = {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
    return save_safetensors(weights, {"architecture": architecture})


def description(architecture: str) -> dict[str, Any]:
    """Return what is needed to build the network and to prepare its inputs, as a JSON-ready dict."""
    return {
        "architecture": architecture,
        "layers": repr(registry.skeleton(architecture)),
        "input": "pixels (N, 28, 28) uint8, light ink on black, longer side 20, centre of mass in the middle",
        "normalization": {
            "scale": 1 / 255,
            "mean": MNIST.mean[0],
            "std": MNIST.std[0],
            "then": "(N, 1, 28, 28) float32",
        },
        "output": "logits (N, 10) of the digits 0 to 9",
    }


def run_safetensors(content: bytes, architecture: str) -> LogitsFunction:
    """Load a safetensors file into a network of this architecture."""
    model = registry.skeleton(architecture).to_empty(device="cpu")
    model.load_state_dict(load_safetensors(content))
    network = FromPixels(model).eval()

    def run(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return network(torch.from_numpy(pixels)).numpy()

    return run


FORMATS = {
    "onnx": "ONNX: for ONNX Runtime, in any language and in browsers",
    "safetensors": "safetensors, with architecture and preprocessing as JSON: for your own PyTorch code",
    "pt2": "torch.export: runs in PyTorch without this program's code",
}


def _onnx(model: nn.Module, architecture: str) -> tuple[dict[str, bytes], LogitsFunction]:
    content = to_onnx(model)
    return {"model.onnx": content, "classify.py": paths.EXPORT_SCRIPT.read_bytes()}, run_onnx(content)


def _safetensors(model: nn.Module, architecture: str) -> tuple[dict[str, bytes], LogitsFunction]:
    content = to_safetensors(model, architecture)
    described = json.dumps(description(architecture), indent=1).encode()
    return {"model.safetensors": content, "model.json": described}, run_safetensors(content, architecture)


def _torch_export(model: nn.Module, architecture: str) -> tuple[dict[str, bytes], LogitsFunction]:
    content = to_torch_export(model)
    return {"model.pt2": content}, run_torch_export(content)


#: Each makes the files of a format by name, and a function that runs them: see FORMATS.
_MAKE = {"onnx": _onnx, "safetensors": _safetensors, "pt2": _torch_export}

# -- the file that is handed out -----------------------------------------------------------


def export(
    model: nn.Module, architecture: str, format: str, digits: Digits, familiar: Familiar | None = None
) -> Exported:
    """Export the model as a zip in one of FORMATS, and check the file by loading it.

    Args:
        model: the network to export.
        architecture: its name, which names the zip too.
        format: a key of FORMATS.
        digits: the images on which the logits of file and model are compared.
        familiar: a test of what looks like a digit, for the script that comes with ONNX files; without one,
            the script recognizes only blots, several digits and ruled paper.

    Raises:
        UserError: there is no such format, the network cannot be exported in it, or the file's logits
            differ from the model's by more than TOLERANCE.
    """
    if format not in FORMATS:
        raise UserError(f"There is no format called {format[:40]!r}; choose one of {', '.join(FORMATS)}.")
    with _plain_failures(format):
        files, run = _MAKE[format](model, architecture)
        difference = compare(run, model, digits)
        if "classify.py" in files and familiar is not None:
            files["digit_check.onnx"] = digit_check(familiar)
    if not difference < TOLERANCE:
        raise UserError(
            f"The {format} file's logits differ from the model's by {difference:.2g}, so you cannot "
            "download it. Choose another format."
        )
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, file in (files | {path.name: path.read_bytes() for path in PREPROCESSING}).items():
            archive.writestr(name, file)
    return Exported(f"{architecture}-{format}.zip", content.getvalue(), difference, len(digits))


def compare(run: LogitsFunction, model: nn.Module, digits: Digits) -> float:
    """Return the largest absolute difference between the logits of ``run`` and ``model`` on ``digits``.

    ``run`` gets batches of BATCHES first, because an exporter may fix the batch size.
    """
    ours = inference.logits_in_chunks(model.cpu(), digits.inputs().cpu(), 512).numpy()
    images, largest = digits.images.cpu().numpy(), max(BATCHES)
    parts = [slice(0, count) for count in BATCHES]
    parts += [slice(start, start + largest) for start in range(largest, len(digits), largest)]
    return float(np.max([np.abs(run(images[part]) - ours[part]).max() for part in parts]))


def part(exported: Exported, name: str) -> bytes:
    """Return one file of an export's zip."""
    with zipfile.ZipFile(io.BytesIO(exported.content)) as archive:
        return archive.read(name)
