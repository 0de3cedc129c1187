"""Test networks by name: initial weights, inputs and outputs, and which files are refused."""

import copy

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from kd.config.distil import INITIALIZATIONS, DistilConfig
from kd.errors import UserError
from kd.experiments.distil import Distillation
from kd.models import inference, registry
from kd.models.layers import transformer
from tests.helpers import identical, same, small_teacher, weights

NAMES = [*registry.ARCHITECTURES, "mlp-7", "mlp-64-32", "mlp-5-6-7"]
IMAGES = torch.randn(5, 1, 28, 28, generator=torch.Generator().manual_seed(0))


# -- initial weights ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_initial_weights_depend_on_name_and_seed_only(name):
    torch.manual_seed(1)
    first = registry.build(name, 3)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert identical(first, registry.build(name, 3))
    assert torch.equal(before, torch.get_rng_state()), "building draws from the global generator"
    assert not identical(first, registry.build(name, 4))


@pytest.mark.parametrize("name", NAMES)
def test_initial_weights_are_spread_like_pytorchs(name):
    for layer in registry.build(name, 0).modules():
        if not isinstance(layer, (nn.Linear, nn.Conv2d, nn.BatchNorm2d, nn.LayerNorm)):
            continue
        own = copy.deepcopy(layer)
        own.reset_parameters()
        for (which, ours), theirs in zip(layer.named_parameters(), own.parameters()):
            if isinstance(layer, (nn.BatchNorm2d, nn.LayerNorm)):
                assert torch.equal(ours, theirs)
                continue
            bound = layer.weight[0].numel() ** -0.5
            assert ours.abs().max() <= bound and theirs.abs().max() <= bound * (1 + 1e-6), which
            if ours.numel() >= 2000:
                assert ours.std().item() == pytest.approx(theirs.std().item(), rel=0.1)
                assert ours.abs().max() > 0.95 * bound and abs(ours.mean()) < 0.1 * bound


@pytest.fixture
def marked_memory():
    """Fill new memory with NaN, so that uninitialized values show."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("name", NAMES)
def test_no_weight_is_left_uninitialized(name, marked_memory):
    assert torch.empty(3).isnan().all()
    for key, value in registry.build(name, 0).state_dict().items():
        if key.endswith(("running_mean", "num_batches_tracked")):
            assert (value == 0).all()
        elif key.endswith("running_var"):
            assert (value == 1).all()
        assert value.isfinite().all(), key


def test_vit_positions_start_as_large_as_its_patches(mnist):
    patches = registry.build("vit", 0)[0]
    alone = patches.embed(mnist.train.inputs())
    assert 0.5 < (patches.positions.std() / alone.std()).item() < 2
    assert len(patches.positions[0].unique(dim=0)) == patches.positions.shape[1]
    assert 0.2 < patches.class_token.std() < 1


# -- architectures of any kind -----------------------------------------------------------------


class Gate(nn.Module):
    """A module that initializes a weight of its own."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Parameter(torch.empty(10))

    def initialize(self, generator):
        self.gate.uniform_(1, 2, generator=generator)

    def forward(self, logits):
        return logits * self.gate


class Unusual(nn.Module):
    """Not a Sequential: two branches, a nested dropout, and a weight outside its layers."""

    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Linear(784, 10), nn.Sequential(nn.Dropout(0.5), nn.Linear(784, 10))
        self.gate = Gate()

    def forward(self, images):
        pixels = images.flatten(1)
        return self.gate(self.one(pixels) + self.other(pixels))


@pytest.fixture
def unusual(monkeypatch):
    """Add one entry to ARCHITECTURES."""
    monkeypatch.setitem(
        registry.ARCHITECTURES,
        "unusual",
        registry.Architecture("unusual", "Two ways at once.", lambda task: Unusual(), student=True),
    )


def test_any_module_can_be_an_architecture(unusual, marked_memory):
    model = registry.build("unusual", 0)
    assert "unusual" in registry.students() and identical(model, registry.build("unusual", 0))
    assert (
        inference.logits_in_chunks(model, IMAGES).isfinite().all()
        and 1 <= model.gate.gate.min() <= model.gate.gate.max() <= 2
    )


def test_any_module_trains_reproducibly_with_its_control(unusual, mnist):
    def train():
        experiment = Distillation(
            DistilConfig(student="unusual", epochs=1, batch_size=250), mnist, small_teacher()
        )
        list(experiment.records())
        return experiment.trained

    first = train()
    torch.rand(3)  # random numbers drawn elsewhere must not matter
    assert same(first, train()) and not identical(first["student"], first["control"])


def test_module_without_initialize_is_not_built(monkeypatch):
    class Silent(Gate):
        initialize = None

    monkeypatch.setitem(
        registry.ARCHITECTURES,
        "silent",
        registry.Architecture("silent", "Says nothing.", lambda task: nn.Sequential(Silent())),
    )
    with pytest.raises(TypeError):
        registry.build("silent", 0)


# -- the teacher's layers ----------------------------------------------------------------------


def pick(state, places):
    """Return the weights of a network's layers at these indices, renumbered from 0."""
    return {
        f"{new}.{key.removeprefix(f'{place}.')}": value
        for new, place in enumerate(places)
        for key, value in state.items()
        if key.startswith(f"{place}.")
    }


def test_student_inherits_every_second_block():
    teacher = registry.build("vit", 5)
    student = registry.build("vit-half", 0)
    student.load_state_dict(registry.inherited(student, teacher))
    # vit is patches, six blocks, normalization, class token, head.
    assert identical(student, pick(teacher.state_dict(), [0, 1, 3, 5, 7, 8, 9]))
    assert identical(teacher, registry.build("vit", 5))
    assert student(IMAGES).isfinite().all()


@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        ("vit-half", "vit-half"),
        ("vit", "vit"),
        ("vit", "vit-half"),
        ("cnn-tiny", "vit"),
        ("vit-half", "cnn"),
        ("cnn", "cnn"),
    ],
)
def test_layers_that_do_not_fit_are_not_inherited(student, teacher):
    with pytest.raises(UserError, match="cannot start with this teacher's layers: .* Choose"):
        registry.inherited(registry.build(student, 0), registry.build(teacher, 0))


def test_transformer_of_another_width_is_not_inherited(monkeypatch):
    narrow = registry.Architecture(
        "narrow", "Narrow.", lambda task: transformer(3, side=7, width=32, heads=4, dropout=0.0)
    )
    monkeypatch.setitem(registry.ARCHITECTURES, "narrow", narrow)
    with pytest.raises(UserError, match="cannot start"):
        registry.inherited(registry.build("narrow", 0), registry.build("vit", 0))


def test_student_and_control_start_with_the_same_weights(mnist):
    teacher = small_teacher("vit")
    for initialization in INITIALIZATIONS:
        config = DistilConfig(student="vit-half", teacher="small", initialization=initialization, seed=3)
        begun = Distillation(config, mnist, teacher).trained
        wanted = registry.build("vit-half", 3)
        if initialization == "teacher":
            wanted.load_state_dict(registry.inherited(wanted, teacher.model))
        assert identical(begun["student"], wanted) and identical(begun["control"], wanted)
        assert begun["student"][0].positions.data_ptr() != teacher.model[0].positions.data_ptr(), (
            "or the teacher would be trained too"
        )


def test_student_that_cannot_inherit_is_refused(mnist):
    with pytest.raises(UserError, match="such as vit-half for vit"):
        Distillation(DistilConfig(student="mlp-30", initialization="teacher"), mnist, small_teacher("cnn"))


# -- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_architecture_returns_ten_logits(name):
    model = registry.build(name, 0)
    assert model(IMAGES).shape == (5, 10) and model.eval()(IMAGES[:1]).shape == (1, 10)
    assert model(IMAGES).dtype == torch.float32
    about = registry.architecture(name)
    assert about.name == name and about.purpose.endswith(".")


@pytest.mark.parametrize("name", registry.students())
def test_every_student_is_an_architecture(name):
    assert name in registry.ARCHITECTURES


def test_own_mlp_has_the_widths_in_its_name():
    linear = [layer for layer in registry.build("mlp-64-32", 0) if isinstance(layer, nn.Linear)]
    assert [layer.out_features for layer in linear] == [64, 32, 10]
    assert registry.own_name((64, 32)) == "mlp-64-32" and registry.own_widths("mlp-64-32") == (64, 32)
    assert registry.own_widths("cnn") is None and registry.own_widths("mlp-800x2") is None


@pytest.mark.parametrize(
    "name",
    [
        "mlp-0",
        "mlp-2049",
        "mlp-1-2-3-4",
        "mlp-999999999",
        "mlp--5",
        "mlp-",
        "mlp",
        "mlp-1.5",
        "mlp-64-",
        "../cnn",
        "",
        " cnn",
        None,
        5,
    ],
)
def test_unknown_architectures_are_refused(name):
    with pytest.raises(
        UserError,
        match="choose one of linear, .* like mlp-64-32|can have 1 to 3 hidden layers of 1 to 2048 units",
    ):
        registry.architecture(name)


def test_skeleton_takes_no_memory():
    assert {value.device.type for value in registry.skeleton("mlp-2048-2048-2048").state_dict().values()} == {
        "meta"
    }


# -- files -------------------------------------------------------------------------------------


@pytest.fixture
def stored(tmp_path):
    path = tmp_path / "student.safetensors"
    model = registry.build("cnn-tiny", 0)
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)
    return path


def test_stored_weights_load_in_eval_mode(stored):
    model = registry.load(stored, "cnn-tiny")
    assert identical(model, registry.build("cnn-tiny", 0)) and not any(
        module.training for module in model.modules()
    )


def changed(path, **values):
    state = load_file(path)
    for key, value in values.items():
        key = key.replace("__", ".")
        state.pop(key) if value is None else state.update({key: value})
    save_file(state, path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"extra": torch.zeros(3)}, "weights of a different network, not of cnn-tiny"),
        ({"0__weight": None}, "weights of a different network"),
        ({"0__weight": torch.zeros(8, 1, 5, 5)}, "weights of a different network"),
        ({"0__weight": torch.zeros(8, 1, 3, 3, dtype=torch.float64)}, "weights of a different network"),
        ({"0__weight": torch.full((8, 1, 3, 3), torch.nan)}, "NaN or infinite"),
        ({"0__weight": torch.full((8, 1, 3, 3), torch.inf)}, "NaN or infinite"),
    ],
)
def test_weights_that_do_not_fit_are_refused(stored, values, message):
    changed(stored, **values)
    with pytest.raises(UserError, match=f"^student.safetensors holds .*{message}"):
        registry.load(stored, "cnn-tiny")


def test_weights_of_another_architecture_are_refused(stored):
    for name in ("cnn", "linear", "mlp-8-16-32"):
        with pytest.raises(UserError, match=f"weights of a different network, not of {name}"):
            registry.load(stored, name)


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.01, 0.5, 0.999])
def test_truncated_file_is_refused(stored, share):
    content = stored.read_bytes()
    stored.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match="student.safetensors is damaged and cannot be read; restore it"):
        registry.load(stored, "cnn-tiny")


def test_other_files_are_refused(tmp_path):
    (tmp_path / "pickle.pt").write_bytes(b"\x80\x02}q\x00.")
    (tmp_path / "huge").write_bytes(b"\xff" * 100)
    (tmp_path / "folder").mkdir()
    for name in ("pickle.pt", "huge", "folder"):
        with pytest.raises(UserError, match=f"{name} is damaged"):
            registry.load(tmp_path / name, "linear")
    with pytest.raises(UserError, match="none is missing; restore it or choose another"):
        registry.load(tmp_path / "none", "linear")


# -- logits ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mlp-30", "cnn-tiny", "cnn", "cnn-separable", "vit-half"])
@pytest.mark.parametrize("chunk", [1, 7, 64, 1000])
def test_logits_in_chunks_equal_one_pass_in_eval_mode(name, chunk):
    images = torch.randn(70, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    model = registry.build(name, 0)
    model(images)  # gives batch normalization running statistics
    before = weights(model)
    in_chunks = inference.logits_in_chunks(model, images, chunk)
    assert model.training and all(module.training for module in model.modules()) and identical(before, model)
    assert not in_chunks.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(in_chunks, model.eval()(images), rtol=1e-4, atol=1e-5)
    inference.logits_in_chunks(model, images, chunk)
    assert not model.training


def test_training_mode_is_restored_when_a_model_fails():
    model = registry.build("linear", 0)
    with pytest.raises(RuntimeError):
        inference.logits_in_chunks(model, torch.zeros(3, 1, 5, 5))
    assert model.training
