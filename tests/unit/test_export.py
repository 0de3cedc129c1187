"""Exported models: they answer like the model itself, without this program."""

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
def test_an_exported_model_gives_the_models_logits(name, format, mnist):
    exported = formats.export(registry.build(name, 0), name, format, mnist.test)
    assert exported.images == len(mnist.test) and exported.difference < 1e-5
    assert exported.name == f"{name}-{format}.zip"


@pytest.mark.parametrize("convert", [formats.to_torch_export, formats.to_onnx])
def test_a_model_answers_others_as_ever_while_it_is_exported(convert):
    model, inputs = registry.build("mlp-30", 0).eval(), torch.randn(4, 1, 28, 28)
    expected, wrong, over = inference.logits_in_chunks(model, inputs), [], threading.Event()

    def ask():
        while not over.is_set():
            try:
                said = inference.logits_in_chunks(model, inputs)
                assert type(said) is torch.Tensor and torch.equal(said, expected)
            except BaseException as error:  # whatever it is, it is told
                wrong.append(repr(error))

    other = threading.Thread(target=ask)
    other.start()
    try:
        convert(model)
    finally:
        over.set()
        other.join()
    assert not wrong


def test_any_number_of_pictures_can_be_asked_about_at_once(shipped, mnist):
    run = formats.run_onnx(formats.to_onnx(shipped))
    for count in (1, 3, 64):
        digits = mnist.test.take(slice(0, count))
        expected = inference.logits_in_chunks(shipped, digits.inputs()).numpy()
        np.testing.assert_allclose(run(digits.images.numpy()), expected, atol=1e-4)


def test_the_safetensors_file_comes_with_all_that_is_needed_to_feed_it(mnist):
    files = unpacked(formats.export(registry.build("mlp-30", 0), "mlp-30", "safetensors", mnist.test))
    about = json.loads(files["model.json"])
    assert about["architecture"] == "mlp-30" and about["normalization"]["mean"] == 0.1307


@pytest.mark.parametrize("format", ["onnx", "pt2"])
def test_a_file_that_answers_otherwise_is_not_given_out(format, mnist, monkeypatch):
    other = registry.build("mlp-30", 1)
    real = {"onnx": formats.to_onnx, "pt2": formats.to_torch_export}[format]
    monkeypatch.setattr(
        formats, {"onnx": "to_onnx", "pt2": "to_torch_export"}[format], lambda model: real(other)
    )
    with pytest.raises(UserError, match="logits differ from the model's by .*Choose another format"):
        formats.export(registry.build("mlp-30", 0), "mlp-30", format, mnist.test)


def test_an_unknown_format_is_refused_in_plain_words(mnist):
    with pytest.raises(UserError, match="no format called 'pickle'; choose one of onnx, safetensors, pt2"):
        formats.export(registry.build("linear", 0), "linear", "pickle", mnist.test)


@pytest.mark.parametrize("paper", [False, True], ids=["light-on-dark", "dark-on-light"])
def test_the_script_reads_a_drawn_digit_as_the_app_does(paper, shipped, mnist, tmp_path):
    """As a user would: unpack, run the script on a picture."""
    exported = formats.export(shipped, "cnn", "onnx", mnist.test)
    for name, content in unpacked(exported).items():
        (tmp_path / name).write_bytes(content)
    for digit in (2, 7):
        ink = preprocess.ink_from_canvas(strokes.render(strokes.DIGITS[digit]))
        picture = np.rint(255 * (1 - ink if paper else ink)).astype(np.uint8)
        Image.fromarray(picture).save(tmp_path / "digit.png")
        said = subprocess.run(
            [sys.executable, "classify.py", "digit.png"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert said.returncode == 0, said.stderr
        pixels = torch.from_numpy(preprocess.prepare(ink)).unsqueeze(0)
        inputs = dataclasses.replace(mnist.test.take(slice(0, 1)), images=pixels).inputs()
        shares = inference.logits_in_chunks(shipped, inputs).double().softmax(1)[0]
        assert said.stdout.strip() == f"{digit} ({shares[digit]:.1%})" and int(shares.argmax()) == digit
