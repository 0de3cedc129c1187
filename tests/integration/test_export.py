"""Exported models answer like the model itself, without this program."""

import dataclasses
import io
import json
import subprocess
import sys
import threading
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from kd.drawing import preprocess
from kd.errors import UserError
from kd.export import formats
from kd.models import inference, registry
from kd.teachers import catalogue
from tests import strokes


def unpacked(exported: formats.Exported) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(exported.content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def shipped():
    return registry.load(catalogue.WEIGHTS / "cnn.safetensors", "cnn")


@pytest.mark.parametrize("name", registry.ARCHITECTURES)
@pytest.mark.parametrize("format", formats.FORMATS)
def test_exported_file_equals_the_model_in_any_batch(name, format, sample):
    digits = sample.train.take(slice(0, 600))
    model = registry.build(name, 0)
    exported = formats.export(model, name, format, digits)
    assert exported.images == 600 and exported.difference < 1e-4
    assert exported.name == f"{name}-{format}.zip"


@pytest.mark.parametrize("count", [1, 7, 512])
def test_export_is_checked_with_batches_of_every_size(count, sample):
    """A file that takes only one batch size is not handed out."""
    model, digits = registry.build("linear", 0), sample.train.take(slice(0, 600))
    pixels = formats.FromPixels(model).eval()

    def run(images):
        assert len(images) != count, "this batch size was fixed"
        with torch.inference_mode():
            return pixels(torch.from_numpy(images)).numpy()

    with pytest.raises(AssertionError, match="this batch size was fixed"):
        formats.compare(run, model, digits)


class FixesItsBatch(nn.Module):
    """A network that no exporter can write for any batch size."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if int(inputs.sum()) > len(inputs):  # depends on the values
            return inputs.flatten(1)[:, :10]
        return inputs.flatten(1)[:, 10:20].expand(len(inputs), 10)


@pytest.mark.parametrize("format", ["onnx", "pt2"])
def test_exporter_failure_becomes_one_sentence(format, mnist):
    with pytest.raises(UserError, match=f"cannot be exported as {format} .*Choose another format") as refusal:
        formats.export(FixesItsBatch(), "linear", format, mnist.test)
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 300


def test_missing_runtime_is_named_with_its_remedy(mnist, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match="needs onnxruntime, .*`pip install onnxruntime`"):
        formats.export(registry.build("linear", 0), "linear", "onnx", mnist.test)


@pytest.mark.parametrize("convert", [formats.to_torch_export, formats.to_onnx])
def test_model_still_answers_while_it_is_exported(convert):
    model, inputs = registry.build("mlp-30", 0).eval(), torch.randn(4, 1, 28, 28)
    expected, failures, over = inference.logits_in_chunks(model, inputs), [], threading.Event()

    def ask():
        while not over.is_set():
            try:
                logits = inference.logits_in_chunks(model, inputs)
                assert type(logits) is torch.Tensor and torch.equal(logits, expected)
            except BaseException as error:  # report every failure
                failures.append(repr(error))

    other = threading.Thread(target=ask)
    other.start()
    try:
        convert(model)
    finally:
        over.set()
        other.join()
    assert not failures


def test_safetensors_export_describes_its_inputs(mnist):
    files = unpacked(formats.export(registry.build("mlp-30", 0), "mlp-30", "safetensors", mnist.test))
    description = json.loads(files["model.json"])
    assert description["architecture"] == "mlp-30" and description["normalization"]["mean"] == 0.1307


@pytest.mark.parametrize("format", ["onnx", "pt2"])
def test_export_with_different_logits_is_refused(format, mnist, monkeypatch):
    other = registry.build("mlp-30", 1)
    real = {"onnx": formats.to_onnx, "pt2": formats.to_torch_export}[format]
    monkeypatch.setattr(
        formats, {"onnx": "to_onnx", "pt2": "to_torch_export"}[format], lambda model: real(other)
    )
    with pytest.raises(UserError, match="logits differ from the model's by .*Choose another format"):
        formats.export(registry.build("mlp-30", 0), "mlp-30", format, mnist.test)


def test_unknown_format_is_refused(mnist):
    with pytest.raises(UserError, match="no format called 'pickle'; choose one of onnx, safetensors, pt2"):
        formats.export(registry.build("linear", 0), "linear", "pickle", mnist.test)


@pytest.mark.parametrize("paper", [False, True], ids=["light-on-dark", "dark-on-light"])
def test_script_classifies_a_drawing_like_the_app(paper, shipped, mnist, tmp_path):
    """Follow a user: unpack the zip and run the script on a picture."""
    exported = formats.export(shipped, "cnn", "onnx", mnist.test)
    for name, content in unpacked(exported).items():
        (tmp_path / name).write_bytes(content)
    for digit in (2, 7):
        ink = preprocess.ink_from_canvas(strokes.render(strokes.DIGITS[digit]))
        picture = np.rint(255 * (1 - ink if paper else ink)).astype(np.uint8)
        Image.fromarray(picture).save(tmp_path / "digit.png")
        script = subprocess.run(
            [sys.executable, "classify.py", "digit.png"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert script.returncode == 0, script.stderr
        pixels = torch.from_numpy(preprocess.prepare(ink)).unsqueeze(0)
        inputs = dataclasses.replace(mnist.test.take(slice(0, 1)), images=pixels).inputs()
        probabilities = inference.logits_in_chunks(shipped, inputs).double().softmax(1)[0]
        assert script.stdout.strip() == f"{digit} ({probabilities[digit]:.1%})"
        assert int(probabilities.argmax()) == digit
