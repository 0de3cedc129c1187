"""A visitor's own weights are recognized, checked before use, and refused with a clear message otherwise."""

import io
import json
import pickle
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from kd.data import digits
from kd.errors import UserError
from kd.export import formats, importing
from kd.models import inference, registry
from kd.store import runs
from kd.teachers import catalogue
from tests.helpers import identical, small_teacher

CASES = Path(__file__).parents[1] / "cases"


def file(name, change=lambda state: None):
    state = {key: value.contiguous() for key, value in registry.build(name, 3).state_dict().items()}
    change(state)
    return save(state)


@pytest.mark.parametrize("name", [*registry.ARCHITECTURES, "mlp-64-32", "mlp-5", "mlp-7-7-7"])
def test_weights_identify_their_architecture(name):
    architecture, model = importing.read(file(name))
    assert architecture == name and identical(model, registry.build(name, 3)) and not model.training


COMPRESSED = [
    "mlp-30_neurons-50",
    "mlp-800x2_rank-40",
    "mlp-1200x2_neurons-50_rank-30",
    "cnn-tiny_neurons-50_rank-30",
    "cnn_neurons-30_neurons-20",
    "cnn-separable_neurons-25_rank-50",
    "vit-half_neurons-50",
    "vit-half_rank-60",
    "mlp-64-32_rank-50",
]


@pytest.mark.parametrize("name", COMPRESSED)
def test_compressed_weights_are_recognized_by_shape(name):
    architecture, model = importing.read(file(name))
    assert identical(model, registry.build(name, 3))
    own = registry.own_widths(architecture.partition("_")[0]) is not None
    assert architecture.partition("_")[0] == name.partition("_")[0] or own and name.startswith("mlp")


def zipped(**files):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in files.items():
            archive.writestr(name.replace("_", ".", 1), part)
    return content.getvalue()


@pytest.mark.parametrize("name", ["linear", "vit", *COMPRESSED])
def test_exported_zip_is_imported_under_its_name(name, mnist):
    model = registry.build(name, 3)
    exported = formats.export(model, name, "safetensors", mnist.test)
    for content in (exported.content, formats.part(exported, "model.safetensors")):
        architecture, again = importing.read(content)
        assert architecture == name and identical(again, model)


def test_zip_that_names_another_network_is_recognized():
    for named in ('{"architecture": "cnn"}', '{"architecture": 5}', "[", '{"architecture": "cnn+cnn+cnn"}'):
        assert importing.read(zipped(model_safetensors=file("mlp-30"), model_json=named))[0] == "mlp-30"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (zipped(model_onnx=b"x"), "holds no safetensors files.*in the format safetensors"),
        (zipped(a_safetensors=b"x", b_safetensors=b"y"), "holds 2 safetensors files; exactly one"),
        (zipped(data_pkl=b"x"), "Pickled files such as .pt are never read"),
        (zipped(a_safetensors=b"x" * 100), "not a safetensors file"),
        (zipped(a_safetensors=bytes(importing.MAX_BYTES + 1)), "no network in this program needs more than"),
        (zipped(a_safetensors=file("linear"))[:-30], "This zip is damaged"),
    ],
    ids=["onnx", "two", "pickle", "junk", "bomb", "cut"],
)
def test_zip_without_usable_weights_is_refused(content, message):
    with pytest.raises(UserError, match=message):
        importing.read(content)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "model.", "module._orig_mod.", "model.module."])
def test_prefixes_of_other_programs_are_removed(prefix):
    state = {
        prefix + key: value.contiguous() for key, value in registry.build("cnn-tiny", 3).state_dict().items()
    }
    architecture, model = importing.read(save(state))
    assert architecture == "cnn-tiny" and identical(model, registry.build("cnn-tiny", 3))


def test_prefix_of_one_compiled_layer_is_removed():
    state = registry.build("mlp-30", 3).state_dict()
    state["1._orig_mod.weight"] = state.pop("1.weight")
    assert identical(importing.read(save(state))[1], registry.build("mlp-30", 3))


def test_file_of_a_compiled_network_is_imported():
    architecture, model = importing.read((CASES / "orig-mod-prefix.safetensors").read_bytes())
    assert architecture == "mlp-4" and not model.training


def test_two_weights_of_one_plain_name_are_refused():
    state = registry.build("mlp-30", 3).state_dict()
    state["1._orig_mod.weight"] = state["1.weight"].clone()
    with pytest.raises(UserError, match="not the weights of a network"):
        importing.read(save(state))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_are_widened(dtype):
    model = registry.build("cnn-tiny", 3).to(dtype)
    architecture, read = importing.read(save({k: v.contiguous() for k, v in model.state_dict().items()}))
    assert architecture == "cnn-tiny" and identical(read, model.float())


def header(entries, data=b""):
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + data


HUGE = {"1.weight": {"dtype": "F32", "shape": [10, 784], "data_offsets": [0, 10**15]}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a safetensors file"),
        (b"12345678", "not a safetensors file"),
        (b"\xff" * 100, "not a safetensors file"),
        (pickle.dumps({"1.weight": [1.0]}), "Pickled files such as .pt are never read"),
        (header([1, 2]), "not a safetensors file"),
        (header({"1.weight": {"dtype": "F32", "shape": [-1, 784]}}), "not a safetensors file"),
        (header({"1.weight": {"dtype": "F32", "shape": [10**9, 10**9]}}), "not a safetensors file"),
        (header({"1.weight": {"dtype": "F32", "shape": [True, 784]}}), "not a safetensors file"),
        (header({"1.weight": {"dtype": "I8", "shape": [10, 784]}}), "save the network in float32"),
        (
            header({"a": {"dtype": "F32", "shape": [10, 784]}}),
            "not the weights of a network that this program knows",
        ),
        (
            header({"².weight": {"dtype": "F32", "shape": [10, 784]}}),
            "not the weights of a network that this program knows",
        ),
        (
            header(HUGE | {"1.bias": {"dtype": "F32", "shape": [10], "data_offsets": [0, 40]}}),
            "not a safetensors file",
        ),
        (file("mlp-30")[:-100], "damaged"),
        (file("mlp-30", lambda state: state.pop("1.bias")), "not the weights of a network"),
        (
            file("mlp-30", lambda state: state.update({"1.bias": torch.zeros(31)})),
            "not the weights of a network",
        ),
        (
            file("mlp-30", lambda state: state.update({"1.bias": torch.full((30,), torch.inf)})),
            "NaN or infinite",
        ),
        (
            file("mlp-30", lambda state: state.update({"1.bias": torch.zeros(30).double()})),
            "save the network in float32",
        ),
        (
            save({f"{i}.weight": torch.zeros(784, 784) for i in (1, 3, 5, 7, 9)}),
            "not the weights of a network",
        ),
        (bytes(importing.MAX_BYTES + 1), "no network in this program needs more than"),
    ],
    ids=range(19),
)
def test_other_files_are_refused(content, message):
    with pytest.raises(UserError, match=message):
        importing.read(content)


@given(st.binary(max_size=300), st.integers(0, 3000))
@settings(max_examples=200, deadline=None)
def test_damaged_bytes_are_refused_or_harmless(junk, place):
    content = GOOD[:place] + junk + GOOD[place + len(junk) :]
    try:
        name, _ = importing.read(content)
    except UserError:
        return
    assert name == "linear"


GOOD = file("linear")


@pytest.fixture
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("KD_HOME", str(tmp_path))


def test_import_is_stored_as_a_run_and_measured(home, mnist):
    run = importing.store(
        file("mlp-30"), "student", "my own", mnist, small_teacher("mlp-32"), runs.owner_digest("me" * 20)
    )
    again = runs.load(run.id)
    assert (again.name, again.kind, again.models, again.architecture) == (
        "my own",
        "imported",
        ("student",),
        "mlp-30",
    )
    assert identical(again.model("student"), registry.build("mlp-30", 3)) and again.metrics() == []
    right = (
        (
            inference.logits_in_chunks(registry.build("mlp-30", 3), mnist.test.inputs()).argmax(1)
            == mnist.test.labels
        )
        .double()
        .mean()
        .item()
    )
    assert again.measures["models"]["student"]["test_accuracy"] == pytest.approx(right)
    assert runs.list_runs()[1] == []


def test_only_an_imported_teacher_can_teach(home, mnist):
    run = importing.store(file("mlp-32"), "teacher", "taught elsewhere", mnist, small_teacher("mlp-32"), None)
    teacher = catalogue.load(run.id)
    assert teacher.architecture == "mlp-32"
    assert torch.allclose(
        teacher.logits(mnist.test),
        inference.logits_in_chunks(registry.build("mlp-32", 3), mnist.test.inputs()),
        atol=1e-5,
    )
    student = importing.store(file("mlp-32"), "student", "a student", mnist, small_teacher("mlp-32"), None)
    with pytest.raises(UserError, match="is not a teacher"):
        catalogue.load(student.id)


@pytest.mark.parametrize(
    ("role", "name", "message"),
    [("boss", "x", "Used as must be one of student, teacher"), ("student", "\x00", "A run needs a name")],
)
def test_bad_role_or_name_stores_nothing(home, mnist, role, name, message):
    with pytest.raises(UserError, match=message):
        importing.store(file("linear"), role, name, mnist, small_teacher("mlp-32"), None)
    assert runs.list_runs() == ([], []) and isinstance(mnist, digits.Mnist)
