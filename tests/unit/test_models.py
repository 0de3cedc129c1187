"""Networks by name: how they begin, what they take and give, and which files they refuse."""

import copy

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from kd import models
from kd.errors import UserError
from tests.helpers import identical, weights

NAMES = [*models.ARCHITECTURES, "mlp-7", "mlp-64-32", "mlp-5-6-7"]
IMAGES = torch.randn(5, 1, 28, 28, generator=torch.Generator().manual_seed(0))


# -- initial weights ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_initial_weights_depend_on_name_and_seed_alone(name):
    torch.manual_seed(1)
    first = models.build(name, 3)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert identical(first, models.build(name, 3))
    assert torch.equal(before, torch.get_rng_state()), "building draws from the global generator"
    assert not identical(first, models.build(name, 4))


@pytest.mark.parametrize("name", NAMES)
def test_initial_weights_are_spread_like_pytorchs_own(name):
    for layer in models.build(name, 0).modules():
        if not isinstance(layer, (nn.Linear, nn.Conv2d, nn.BatchNorm2d)):
            continue
        own = copy.deepcopy(layer)
        own.reset_parameters()
        for (which, ours), theirs in zip(layer.named_parameters(), own.parameters()):
            if isinstance(layer, nn.BatchNorm2d):
                assert torch.equal(ours, theirs)
                continue
            bound = layer.weight[0].numel() ** -0.5
            assert ours.abs().max() <= bound and theirs.abs().max() <= bound * (1 + 1e-6), which
            if ours.numel() >= 2000:
                assert ours.std().item() == pytest.approx(theirs.std().item(), rel=0.1)
                assert ours.abs().max() > 0.95 * bound and abs(ours.mean()) < 0.1 * bound


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_left_uninitialized(name):
    for key, value in models.build(name, 0).state_dict().items():
        if key.endswith(("running_mean", "num_batches_tracked")):
            assert (value == 0).all()
        elif key.endswith("running_var"):
            assert (value == 1).all()
        assert value.isfinite().all()


# -- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_architecture_takes_digits_and_gives_ten_logits(name):
    model = models.build(name, 0)
    assert model(IMAGES).shape == (5, 10) and model.eval()(IMAGES[:1]).shape == (1, 10)
    assert model(IMAGES).dtype == torch.float32
    about = models.architecture(name)
    assert about.name == name and about.purpose.endswith(".")


@pytest.mark.parametrize("name", models.students())
def test_every_student_is_an_architecture(name):
    assert name in models.ARCHITECTURES


def test_an_mlp_of_ones_own_has_the_widths_in_its_name():
    linear = [layer for layer in models.build("mlp-64-32", 0) if isinstance(layer, nn.Linear)]
    assert [layer.out_features for layer in linear] == [64, 32, 10]
    assert models.own_name((64, 32)) == "mlp-64-32" and models.own_widths("mlp-64-32") == (64, 32)
    assert models.own_widths("cnn") is None and models.own_widths("mlp-800x2") is None


@pytest.mark.parametrize(
    "name",
    [
        "mlp-0", "mlp-2049", "mlp-1-2-3-4", "mlp-999999999", "mlp--5", "mlp-", "mlp", "mlp-1.5", "mlp-64-", "../cnn", "",
        " cnn", None, 5,
    ],
)
def test_other_names_are_refused_in_plain_words(name):
    with pytest.raises(UserError, match="choose one of linear, .* like mlp-64-32|has 1 to 3 hidden layers of 1 to 2048 units"):
        models.architecture(name)


def test_a_skeleton_takes_no_memory():
    assert {value.device.type for value in models.skeleton("mlp-2048-2048-2048").state_dict().values()} == {"meta"}


# -- files -------------------------------------------------------------------------------------


@pytest.fixture
def stored(tmp_path):
    path = tmp_path / "student.safetensors"
    model = models.build("cnn-tiny", 0)
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)
    return path


def test_stored_weights_come_back_in_eval_mode(stored):
    model = models.load(stored, "cnn-tiny")
    assert identical(model, models.build("cnn-tiny", 0)) and not any(module.training for module in model.modules())


def changed(path, **values):
    state = load_file(path)
    for key, value in values.items():
        key = key.replace("__", ".")
        state.pop(key) if value is None else state.update({key: value})
    save_file(state, path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"extra": torch.zeros(3)}, "weights of another network than cnn-tiny"),
        ({"0__weight": None}, "weights of another network"),
        ({"0__weight": torch.zeros(8, 1, 5, 5)}, "weights of another network"),
        ({"0__weight": torch.zeros(8, 1, 3, 3, dtype=torch.float64)}, "weights of another network"),
        ({"0__weight": torch.full((8, 1, 3, 3), torch.nan)}, "not finite numbers"),
        ({"0__weight": torch.full((8, 1, 3, 3), torch.inf)}, "not finite numbers"),
    ],
)
def test_weights_that_do_not_fit_are_refused(stored, values, message):
    changed(stored, **values)
    with pytest.raises(UserError, match=f"^student.safetensors holds .*{message}"):
        models.load(stored, "cnn-tiny")


def test_weights_of_another_architecture_are_refused(stored):
    for name in ("cnn", "linear", "mlp-8-16-32"):
        with pytest.raises(UserError, match=f"weights of another network than {name}"):
            models.load(stored, name)


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.01, 0.5, 0.999])
def test_a_truncated_file_is_refused(stored, share):
    content = stored.read_bytes()
    stored.write_bytes(content[:int(share * len(content))])
    with pytest.raises(UserError, match="student.safetensors is damaged and cannot be read; restore it"):
        models.load(stored, "cnn-tiny")


def test_other_files_are_refused(tmp_path):
    (tmp_path / "pickle.pt").write_bytes(b"\x80\x02}q\x00.")
    (tmp_path / "huge").write_bytes(b"\xff" * 100)
    (tmp_path / "folder").mkdir()
    for name in ("pickle.pt", "huge", "folder"):
        with pytest.raises(UserError, match=f"{name} is damaged"):
            models.load(tmp_path / name, "linear")
    with pytest.raises(UserError, match="none is missing; restore it or choose another"):
        models.load(tmp_path / "none", "linear")


# -- logits ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mlp-30", "cnn-tiny", "cnn"])
@pytest.mark.parametrize("chunk", [1, 7, 64, 1000])
def test_logits_in_chunks_are_those_of_one_pass_in_eval_mode(name, chunk):
    images = torch.randn(70, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    model = models.build(name, 0)
    model(images)  # gives batch normalization something to remember
    before = weights(model)
    in_chunks = models.logits_in_chunks(model, images, chunk)
    assert model.training and all(module.training for module in model.modules()) and identical(before, model)
    assert not in_chunks.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(in_chunks, model.eval()(images), rtol=1e-4, atol=1e-5)
    models.logits_in_chunks(model, images, chunk)
    assert not model.training


def test_the_mode_is_restored_when_a_model_fails():
    model = models.build("linear", 0)
    with pytest.raises(RuntimeError):
        models.logits_in_chunks(model, torch.zeros(3, 1, 5, 5))
    assert model.training
