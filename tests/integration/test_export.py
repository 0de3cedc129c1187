"""Exported models answer like the model itself, without this program."""

import io
import json
import re
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from kd import paths
from kd.data import digits
from kd.drawing import doubts, familiarity, oddities, preprocess, uploads
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


@pytest.mark.parametrize("format", formats.FORMATS)
def test_export_contains_the_preprocessing_unchanged(format, mnist):
    files = unpacked(formats.export(registry.build("linear", 0), "linear", format, mnist.test))
    for name in ("preprocess.py", "oddities.py"):
        assert files[name] == (paths.PACKAGE / "drawing" / name).read_bytes()


# -- the script that classifies pictures -----------------------------------------------------

CASES = Path(__file__).parents[1] / "cases" / "pictures"


@pytest.fixture(scope="module")
def familiar(shipped, sample):
    return familiarity.Familiar(shipped, sample.validation)


@pytest.fixture(scope="module")
def script(shipped, mnist, familiar, tmp_path_factory):
    """Unpack an export, and return a function that runs its script from another folder."""
    folder, elsewhere = tmp_path_factory.mktemp("export"), tmp_path_factory.mktemp("elsewhere")
    for name, content in unpacked(formats.export(shipped, "cnn", "onnx", mnist.test, familiar)).items():
        (folder / name).write_bytes(content)

    def run(*arguments):
        return subprocess.run(
            [sys.executable, folder / "classify.py", *arguments],
            cwd=elsewhere,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


def drawings(folder):
    """Write pictures of digits, letters, several digits, a blot and ruled paper; return their paths."""
    drawn = {f"digit {digit}": strokes.DIGITS[digit] for digit in (2, 7)}
    drawn |= {f"letter {name}": strokes.LETTERS[name] for name in ("W", "M")}
    drawn |= {"fence": strokes.SCRIBBLES["fence"]}
    drawn |= json.loads((CASES.parent / "two-digits.json").read_text())
    inks = {name: preprocess.ink_from_canvas(strokes.render(drawing)) for name, drawing in drawn.items()}
    y, x = np.mgrid[:280, :280] - 140
    inks["blot"] = (x * x + 2 * y * y < 90**2).astype(np.float32)
    inks["ruled paper"] = np.maximum(inks["digit 7"], np.where(y % 70 < 3, 1, 0))
    for number, (name, ink) in enumerate(inks.items()):
        grey = ink if number % 2 else 1 - ink
        Image.fromarray(np.rint(255 * grey).astype(np.uint8)).save(folder / f"{name}.png")
    return sorted(folder.iterdir())


def said_by_app(path, model, familiar):
    """Return what the Draw page makes of a picture: the answer or None, and the first warning or None."""
    ink = uploads.ink_from_picture(path.read_bytes())
    pixels = preprocess.prepare(ink)
    if pixels is None:
        return None, preprocess.NO_DIGIT
    inputs = digits.normalize(torch.from_numpy(pixels)[None])
    shares = inference.logits_in_chunks(model, inputs).double().softmax(1)[0]
    said = f"{shares.argmax()} ({shares.max():.1%})"
    if oddities.has_lines(ink):
        return said, oddities.WARNINGS["lines"]
    return said, doubts.not_one_digit(pixels, bool(familiar.knows(inputs)[0]))


def test_script_and_app_agree_on_every_picture(script, shipped, familiar, tmp_path):
    pictures = [*sorted(CASES.iterdir()), *drawings(tmp_path)]
    done = script(*pictures)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    said = {path: said_by_app(path, shipped, familiar) for path in pictures}
    assert done.stdout.splitlines() == [f"{path}: {answer}" for path, (answer, _) in said.items() if answer]
    assert done.stderr.splitlines() == [
        f"{path}: {warning}" for path, (_, warning) in said.items() if warning
    ]
    warned = {path.stem: warning for path, (_, warning) in said.items() if warning}
    assert {warned.get(name) for name in ("two_far_3_7", "two_near_1_0", "10", "11", "42", "100")} == {
        oddities.WARNINGS["several"]
    }
    assert warned["blot"] == oddities.WARNINGS["blot"]
    assert warned["ruled paper"] == oddities.WARNINGS["lines"]
    assert warned["fence"] == oddities.WARNINGS["unfamiliar"]
    assert warned["blank_white"] == warned["blank_black"] == preprocess.NO_DIGIT
    assert not {"digit 2", "digit 7", "grey240_ink10", "exif6"} & set(warned)


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [
        ("grey240_ink10.png", 0, r"7 \(\d+\.\d%\)\n"),
        ("blank_white.png", 1, "No digit was found in this picture; .*"),
        ("nothing.png", 1, ".*nothing.png cannot be opened .*"),
        (None, 2, "Say which digit a picture shows: python classify.py PICTURE.*"),
    ],
)
def test_script_says_in_its_exit_status_what_happened(script, name, status, said):
    done = script(*([CASES / name] if name else []))
    assert done.returncode == status and "Traceback" not in done.stderr
    assert re.fullmatch(said, done.stderr if status else done.stdout, re.DOTALL)
    assert not (done.stdout if status else done.stderr)


def test_script_without_its_model_says_so(tmp_path):
    for path in (paths.EXPORT_SCRIPT, *formats.PREPROCESSING):
        name = "classify.py" if path == paths.EXPORT_SCRIPT else path.name
        (tmp_path / name).write_bytes(path.read_bytes())
    done = subprocess.run(
        [sys.executable, tmp_path / "classify.py", "x.png"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2 and re.fullmatch("model.onnx cannot be opened .*\n", done.stderr)
