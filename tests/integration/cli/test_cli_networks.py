"""Commands for the networks of stored runs: export, predict and import."""

import io
import json
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save

from kd.config.sweep import SweepConfig
from kd.data import digits, sources
from kd.drawing import doubts, oddities, preprocess
from kd.export import formats, importing
from kd.models import registry
from kd.store import runs
from tests.helpers import MEASURES, identical
from tests.stored_run import CONFIG, ROWS

NETWORKS = {"student": registry.build("mlp-30", 1), "control": registry.build("mlp-30", 2)}


@pytest.fixture
def stored(home, tmp_path, monkeypatch):
    """Return a stored run; the current folder is empty."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    config = CONFIG.replace(teacher="cnn")
    return runs.save(runs.new_id(), config, "done", ROWS, NETWORKS, MEASURES, name="first")


@pytest.fixture
def pictures(stored, tmp_path, sample):
    """Write pictures of a real digit, of a blot and of nothing, and a file that is none."""

    def write(name, dark):
        picture = np.pad(255 - dark, 14, constant_values=255)
        Image.fromarray(picture).resize((224, 224)).save(name)

    write("digit.png", sample.test.images[3].numpy())
    write("blot.png", np.pad(np.full((16, 16), 255, np.uint8), 6))
    write("empty.png", np.zeros((28, 28), np.uint8))
    (tmp_path / "here" / "text.png").write_text("no picture")


# -- export ------------------------------------------------------------------------------------------


def test_export_writes_the_zip_of_the_app(run, stored, mnist, tmp_path):
    code, out, err = run("export", "first", "--format", "safetensors", "--json")
    told = json.loads(out)
    content = (tmp_path / "here" / "mlp-30-safetensors.zip").read_bytes()
    expected = formats.export(stored.model("student"), "mlp-30", "safetensors", mnist.test)
    with zipfile.ZipFile(io.BytesIO(content)) as one, zipfile.ZipFile(io.BytesIO(expected.content)) as other:
        assert {name: one.read(name) for name in one.namelist()} == {
            name: other.read(name) for name in other.namelist()
        }
    assert code == 0 and told == {
        "run": stored.id,
        "network": "student",
        "architecture": "mlp-30",
        "format": "safetensors",
        "file": "mlp-30-safetensors.zip",
        "bytes": len(content),
        "difference": expected.difference,
        "images": 200,
    }


def test_export_writes_the_network_alone_by_the_files_name(run, stored, tmp_path):
    file = tmp_path / "here" / "mine.safetensors"
    code, out, _ = run(
        "export", "first", "--format", "safetensors", "--network", "control", "-o", "mine.safetensors"
    )
    assert (
        code == 0 and out.startswith("mine.safetensors: control of first, ") and "on 200 test images" in out
    )
    assert identical(importing.read(file.read_bytes())[1], NETWORKS["control"])


def test_export_of_onnx_comes_with_the_teachers_check(run, stored, tmp_path, monkeypatch):
    given = []

    def exported(model, architecture, format, digits, familiar):
        given.append((architecture, format, len(digits), familiar is not None))
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            archive.writestr("model.onnx", b"alone")
        return formats.Exported("any.zip", content.getvalue(), 1e-6, len(digits))

    monkeypatch.setattr(formats, "export", exported)
    assert run("export", "first", "--format", "onnx", "-o", "all.zip")[0] == 0
    assert run("export", "first", "--format", "onnx", "-o", "one.onnx")[0] == 0
    assert given == [("mlp-30", "onnx", 200, True), ("mlp-30", "onnx", 200, False)]
    assert (tmp_path / "here" / "one.onnx").read_bytes() == b"alone"
    assert zipfile.ZipFile(tmp_path / "here" / "all.zip").namelist() == ["model.onnx"]


@pytest.mark.parametrize(
    "words, told",
    [
        (
            ["first", "--format", "onnx", "-o", "x.pt2"],
            "must end in .zip, for all that belongs to the export",
        ),
        (
            ["first", "--format", "onnx", "--network", "teacher"],
            "no network 'teacher'; choose one of student",
        ),
        (["first", "--format", "onnx", "-o", "no/x.zip"], "There is no folder no"),
        (["nobody", "--format", "onnx"], "No run has the name 'nobody'"),
        (["first", "--format", "gguf"], "invalid choice: 'gguf'"),
        (["bare", "--format", "onnx"], "bare stored no networks"),
    ],
)
def test_export_is_refused_before_any_work(run, stored, tmp_path, monkeypatch, words, told):
    runs.save(runs.new_id(), SweepConfig(), "done", [], {}, MEASURES, name="bare")
    monkeypatch.setattr(sources, "Source", lambda: pytest.fail("data were asked for"))
    code, out, err = run("export", *words)
    assert (code, out) == (2, "") and told in err and not list((tmp_path / "here").iterdir())


# -- predict -----------------------------------------------------------------------------------------


def test_predict_answers_as_the_network_does(run, pictures, stored):
    code, out, _ = run("predict", "first", "digit.png", "--json")
    told = json.loads(out)
    pixels = preprocess.prepare(preprocess.ink_from_picture(open("digit.png", "rb").read()))
    inputs = digits.normalize(torch.from_numpy(pixels)[None])
    row = told["pictures"][0]
    assert (told["run"], told["network"], row["file"]) == (stored.id, "student", "digit.png")
    assert list(row["probabilities"]) == ["teacher", "student", "control"] and row["problem"] == ""
    for name, network in NETWORKS.items():
        shares = network.eval()(inputs)[0].softmax(0)
        assert row["probabilities"][name] == pytest.approx(shares.tolist(), abs=1e-5)
        answer = int(shares.argmax())
        assert run("predict", "first", "digit.png", "--network", name)[1] == (
            f"digit.png: {answer} ({shares[answer]:.1%})\n"
        )
    assert code == (1 if row["warnings"] else 0)


def test_predict_succeeds_where_nothing_is_to_be_doubted(run, pictures, monkeypatch):
    monkeypatch.setattr(doubts, "not_one_digit", lambda pixels, is_digit, ink: None)
    monkeypatch.setattr(doubts, "contradiction", lambda logits: None)
    code, out, err = run("predict", "first", "digit.png")
    assert code == 0 and out.startswith("digit.png: ") and "digit.png" not in err


def test_predict_warns_as_the_app_and_goes_on(run, pictures):
    code, out, err = run("predict", "first", "blot.png", "empty.png", "text.png", "gone.png", "digit.png")
    assert code == 1 and [line.split(":")[0] for line in out.splitlines()] == ["blot.png", "digit.png"]
    assert f"kd: blot.png: {oddities.WARNINGS['blot']}\n" in err
    assert f"kd: empty.png: {preprocess.NO_DIGIT}\n" in err
    assert f"kd: text.png: {preprocess.unreadable()}\n" in err
    assert "kd: gone.png: it cannot be opened (No such file or directory).\n" in err
    told = json.loads(run("predict", "first", "empty.png", "blot.png", "--json")[1])["pictures"]
    assert (told[0]["digit"], told[0]["problem"]) == (None, preprocess.NO_DIGIT)
    assert oddities.WARNINGS["blot"] in told[1]["warnings"] and told[1]["digit"] in range(10)


def test_predict_uses_a_shipped_teacher_for_a_deleted_one(run, pictures, home):
    config = CONFIG.replace(teacher="20260101-120000-0123456789abcdef")
    runs.save(runs.new_id(), config, "done", ROWS, NETWORKS, MEASURES, name="orphan")
    code, out, err = run("predict", "orphan", "digit.png")
    assert code in (0, 1) and out.startswith("digit.png: ")
    assert "This run is no longer there" in err and "is used instead." in err


# -- import ------------------------------------------------------------------------------------------


def test_export_is_imported_again(run, stored, monkeypatch):
    monkeypatch.setenv("KD_PRESENTER_PASSWORD", "a long password")  # restricts the app alone
    run("export", "first", "--format", "safetensors", "-o", "again.zip")
    code, out, _ = run("import", "again.zip", "--json")
    told = json.loads(out)
    found = runs.load(told["run"])
    assert code == 0 and (found.name, found.owner, found.models) == ("again", None, ("student",))
    assert identical(found.model("student"), NETWORKS["student"])
    assert told["models"]["student"] == {
        key: found.measures["models"]["student"][key] for key in ("test_accuracy", "test_errors", "agreement")
    }
    code, out, _ = run("import", "again.zip", "--role", "teacher", "--name", "taught elsewhere")
    assert code == 0 and "taught elsewhere was imported: mlp-30, test accuracy " in out
    assert runs.list_runs()[0][0].models == ("teacher",)


@pytest.mark.parametrize(
    "name, options, told",
    [
        ("gone.zip", [], "gone.zip cannot be opened (No such file or directory)."),
        (".", [], "cannot be opened (Is a directory)."),
        ("bad.safetensors", [], "This is not a safetensors file"),
        ("good.safetensors", ["--name", "x" * 61], "can have at most 60 characters"),
        ("good.safetensors", ["--role", "judge"], "invalid choice: 'judge'"),
    ],
)
def test_import_is_refused_before_any_work(run, stored, monkeypatch, name, options, told):
    with open("bad.safetensors", "wb") as bad, open("good.safetensors", "wb") as good:
        bad.write(b"x" * 100)
        good.write(save(NETWORKS["student"].state_dict()))
    monkeypatch.setattr(sources, "Source", lambda: pytest.fail("data were asked for"))
    code, out, err = run("import", name, *options)
    assert (code, out) == (2, "") and told in err and len(runs.list_runs()[0]) == 1
