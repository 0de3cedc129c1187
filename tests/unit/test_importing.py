"""A visitor's own weights are recognized, checked before use, and refused with a clear message otherwise."""

import json
import pickle
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from kd.data import digits
from kd.errors import UserError
from kd.export import importing
from kd.models import inference, registry
from kd.store import runs
from kd.teachers import catalogue
from tests.helpers import identical, small_teacher


def file(name, change=lambda state: None):
    state = {key: value.contiguous() for key, value in registry.build(name, 3).state_dict().items()}
    change(state)
    return save(state)


@pytest.mark.parametrize("name", [*registry.ARCHITECTURES, "mlp-64-32", "mlp-5", "mlp-7-7-7"])
def test_weights_identify_their_architecture(name):
    architecture, model = importing.read(file(name))
    assert architecture == name and identical(model, registry.build(name, 3)) and not model.training


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
        (header({"1.weight": {"dtype": "F16", "shape": [10, 784]}}), "save the network in float32"),
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
