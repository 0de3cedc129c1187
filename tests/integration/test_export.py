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

from kd.drawing import preprocess
from kd.errors import UserError
from kd.export import formats
from kd.models import inference, registry
from kd.teachers import catalogue
from tests import strokes

NAMES = ["linear", "mlp-30", "cnn-tiny"]


def unpacked(exported: formats.Exported) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(exported.content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def shipped():
    return registry.load(catalogue.WEIGHTS / "cnn.safetensors", "cnn")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("format", list(formats.FORMATS))
def test_exported_model_gives_the_model_logits(name, format, mnist):
    exported = formats.export(registry.build(name, 0), name, format, mnist.test)
    assert exported.images == len(mnist.test) and exported.difference < 1e-5
    assert exported.name == f"{name}-{format}.zip"


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


def test_onnx_file_takes_any_batch_size(shipped, mnist):
    run = formats.run_onnx(formats.to_onnx(shipped))
    for count in (1, 3, 64):
        digits = mnist.test.take(slice(0, count))
        expected = inference.logits_in_chunks(shipped, digits.inputs()).numpy()
        np.testing.assert_allclose(run(digits.images.numpy()), expected, atol=1e-4)


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
