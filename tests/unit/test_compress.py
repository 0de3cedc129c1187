"""Networks made smaller in one go: by hand values, and against networks in which the same was silenced."""

from __future__ import annotations

import copy
import io
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save_file
from torch import Tensor, nn

from kd.data.task import MNIST
from kd.errors import UserError
from kd.metrics import size
from kd.models import compress, registry
from tests.helpers import identical, weights


@pytest.fixture
def images() -> Tensor:
    return torch.randn(40, *MNIST.image_shape, generator=torch.Generator().manual_seed(1))


def dense(*layers: list[list[float]]) -> nn.Sequential:
    """Linear layers with these weights, and ReLU between them."""
    found: list[nn.Module] = [nn.Flatten()]
    for rows in layers:
        layer = nn.Linear(len(rows[0]), len(rows))
        layer.weight.data, layer.bias.data = torch.tensor(rows), torch.zeros(len(rows))
        found += [layer, nn.ReLU()]
    return nn.Sequential(*found[:-1])


def settled(name: str) -> nn.Module:
    """A network whose normalizations have statistics of their own, as after training."""
    model = registry.build(name, 0)
    draw = torch.Generator().manual_seed(2)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for value in (layer.weight.data, layer.running_var):
                value.uniform_(0.5, 2.0, generator=draw)
            for value in (layer.bias.data, layer.running_mean):
                value.uniform_(-0.3, 0.3, generator=draw)
    return model.eval()


# -- zeros ---------------------------------------------------------------------------------


def test_the_smallest_weights_of_all_layers_fall():
    model = dense([[1.0, -0.1], [0.4, 3.0]], [[-0.2, 2.0]])
    pruned = compress.prune_weights(model, 0.5)
    assert pruned[1].weight.tolist() == [[1.0, 0.0], [0.0, 3.0]]  # 0.1, 0.2 and 0.4 fall, wherever they are
    assert pruned[3].weight.tolist() == [[0.0, 2.0]]


def test_of_equal_weights_the_earlier_fall():
    pruned = compress.prune_weights(dense([[1.0, -1.0], [1.0, 1.0]]), 0.5)
    assert pruned[1].weight.tolist() == [[0.0, 0.0], [1.0, 1.0]]


def test_what_it_is_given_stays_as_it_is(images: Tensor):
    model = settled("cnn-tiny")
    before = weights(model)
    for _, smaller in compress.steps(
        model, {"neurons": 30, "activation": 30, "rank": 30, "weights": 30}, images
    ):
        assert not identical(smaller, before)
    compress.quantize(model, "static", images)
    assert identical(model, before) and not model.training


@pytest.mark.parametrize("name", ["mlp-30", "cnn-tiny", "vit-half"])
def test_biases_and_normalization_are_not_pruned(name: str):
    model, pruned = settled(name), compress.prune_weights(settled(name), 0.9)
    for key, layer in model.named_modules():
        if isinstance(layer, (nn.BatchNorm2d, nn.LayerNorm)):
            assert identical(layer, pruned.get_submodule(key))
        elif isinstance(layer, nn.Linear):
            assert torch.equal(layer.bias, pruned.get_submodule(key).bias)


@pytest.mark.parametrize("name", ["mlp-30", "cnn-tiny", "mlp-1200x2"])
def test_held_zeros_stay_zero_and_the_rest_learns(name: str, images: Tensor):
    pruned = compress.prune_weights(settled(name), 0.7)
    model = compress.held(pruned)
    with torch.no_grad():
        assert torch.allclose(model(images), pruned(images), atol=1e-5)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), 0.1, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(images).square().sum().backward()
        optimizer.step()
    before, after = pruned.state_dict(), model.state_dict()
    assert before.keys() == after.keys()  # a mask is no weight
    for key, layer in pruned.named_modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            zero = before[f"{key}.weight"] == 0
            assert zero.any() and not after[f"{key}.weight"][zero].any()
            assert (after[f"{key}.weight"] != before[f"{key}.weight"])[~zero].any()


def test_a_network_without_zeros_is_held_as_it_is():
    assert repr(compress.held(registry.build("mlp-30", 0))) == repr(registry.build("mlp-30", 0))


# -- neurons -------------------------------------------------------------------------------


def test_the_neurons_with_the_smallest_weights_go():
    model = dense([[1.0, -1.0], [0.1, 0.2], [0.0, 3.0], [-0.5, 0.4]], [[1.0, 2.0, 3.0, 4.0]])
    model[1].bias.data = torch.tensor([10.0, 20.0, 30.0, 40.0])
    pruned = compress.prune_neurons(model, 0.5)  # absolute sums 2, 0.3, 3, 0.9
    assert pruned[1].weight.tolist() == [[1.0, -1.0], [0.0, 3.0]]
    assert pruned[1].bias.tolist() == [10.0, 30.0]
    assert pruned[3].weight.tolist() == [[1.0, 3.0]]
    assert (pruned[1].out_features, pruned[3].in_features) == (2, 2)


def test_by_activation_those_go_that_say_least():
    model = dense([[5.0, -5.0], [0.1, 0.1], [0.0, 1.0]], [[1.0, 2.0, 3.0]])
    seen = torch.tensor([[1.0, 3.0], [2.0, 2.0]]).view(2, 1, 1, 2)
    pruned = compress.prune_neurons(
        model, 1 / 3, seen
    )  # mean activations 0, 0.4, 2.5: the largest weights say nothing
    assert pruned[1].weight.tolist() == [[pytest.approx(0.1)] * 2, [0.0, 1.0]]


def test_of_equal_neurons_the_later_go():
    assert compress.prune_neurons(dense([[1.0], [1.0], [1.0]], [[1.0, 2.0, 3.0]]), 0.4)[
        3
    ].weight.tolist() == [[1.0, 2.0]]


def test_a_neuron_stays_in_each_layer():
    assert [
        layer.out_features
        for layer in compress.prune_neurons(registry.build("mlp-30", 0), 0.99)
        if isinstance(layer, nn.Linear)
    ] == [1, 10]


def test_a_channel_counts_as_it_acts_after_normalization():
    model = registry.build("cnn-tiny", 0).eval()
    model[0].weight.data[3] = 1.0  # the largest filter of 8, which normalization makes the smallest
    model[1].weight.data[3] = 1e-3
    kept = compress.prune_neurons(model, 1 / 8)[0].weight
    assert torch.equal(kept, model[0].weight[[0, 1, 2, 4, 5, 6, 7]])


@pytest.mark.parametrize("by_activation", [False, True])
@pytest.mark.parametrize(
    "name", ["mlp-30", "mlp-24-16", "mlp-1200x2", "cnn-tiny", "cnn-separable", "cnn", "vit-half"]
)
def test_what_remains_answers_like_the_whole_with_the_neurons_silenced(
    name: str, by_activation: bool, images: Tensor
):
    model = settled(name)
    pruned = compress.prune_neurons(model, 0.4, images if by_activation else None)
    silenced = copy.deepcopy(model)
    activations = [layer for layer in silenced.modules() if isinstance(layer, (nn.ReLU, nn.GELU))]
    for layer, missing in zip(activations, removed(model, pruned), strict=True):
        layer.register_forward_hook(silence(missing))
    with torch.no_grad():
        assert torch.allclose(pruned(images), silenced(images), atol=1e-5)
    assert compress.cost(pruned).parameters < compress.cost(model).parameters


def removed(model: nn.Module, pruned: nn.Module) -> list[list[int]]:
    """For each layer that lost outputs, which: those whose biases, the layer's own or the normalization's, are not there any more."""
    found = []
    for whole, less in zip(model.modules(), pruned.modules()):
        if isinstance(whole, (nn.Linear, nn.BatchNorm2d)) and len(less.bias) < len(whole.bias):
            kept = set(less.bias.tolist())
            found.append([i for i, value in enumerate(whole.bias.tolist()) if value not in kept])
    return found


def silence(missing: list[int]):
    def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        output = output.clone()
        (output if output.dim() == 4 else output.movedim(-1, 1))[:, missing] = 0
        return output

    return hook


# -- low rank ------------------------------------------------------------------------------


def test_at_full_rank_the_two_layers_are_the_one(images: Tensor):
    layer = registry.build("mlp-30", 0)[1]
    pair = compress.factored(layer, 30)
    inputs = images.flatten(1)
    assert torch.allclose(pair(inputs), layer(inputs), atol=1e-5)


def test_the_error_is_the_singular_values_left_out():
    layer = nn.Linear(3, 3)
    layer.weight.data = torch.diag(torch.tensor([3.0, 2.0, 1.0]))
    pair = compress.factored(layer, 1)
    error = pair[1].weight @ pair[0].weight - layer.weight
    assert error.square().sum().item() == pytest.approx(2.0**2 + 1.0**2, abs=1e-5)
    assert torch.equal(pair[1].bias, layer.bias)


def test_a_convolution_is_two_thin_ones(images: Tensor):
    layer = nn.Conv2d(1, 8, 3, stride=2, padding=1, bias=False)
    assert torch.allclose(compress.factored(layer, 8)(images), layer(images), atol=1e-5)
    values = torch.linalg.svdvals(layer.weight.detach().flatten(1))
    pair = compress.factored(layer, 5)
    product = (pair[1].weight.flatten(1) @ pair[0].weight.flatten(1)).detach()
    assert (product - layer.weight.detach().flatten(1)).square().sum().item() == pytest.approx(
        values[5:].square().sum().item(), abs=1e-5
    )


def test_the_rank_is_the_largest_that_saves_the_share():
    model = compress.low_rank(registry.build("mlp-128", 0), 0.5)
    first = model[1]
    assert isinstance(first, compress.Factored)
    assert first[0].out_features == int(0.5 * 784 * 128 / (784 + 128)) == 55
    assert isinstance(model[3], nn.Linear)  # the last layer stays


def test_a_layer_that_would_not_get_smaller_stays():
    model = registry.build("mlp-1", 0)  # one unit: of rank 1, and as two layers larger
    assert repr(compress.low_rank(model, 0.9)) == repr(model)


# -- int8 ----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["dynamic", "static"])
@pytest.mark.parametrize("name", ["mlp-30", "cnn-tiny", "vit-half", "mlp-30_rank-50"])
def test_int8_is_near(name: str, how: str, images: Tensor):
    model = settled(name)
    small = compress.quantize(model, how, images)
    with torch.no_grad():
        assert (small(images) - model(images)).abs().max() < 0.05 * model(images).abs().max()
        assert not torch.equal(small(images), model(images))
    assert compress.cost(small).file_bytes < compress.cost(model).file_bytes


def test_an_int8_weight_is_off_by_half_a_step_at_most():
    layer = nn.Linear(50, 4)
    small = compress.quantize(nn.Sequential(layer), "dynamic", torch.zeros(1, 50))
    step = layer.weight.detach().abs().max(1, keepdim=True).values / 127.5
    assert ((small[0].weight.dequantize() - layer.weight.detach()).abs() <= step / 2 * 1.02).all()
    assert small[0].weight.qdata.dtype == torch.int8


def test_static_scales_come_from_the_images(images: Tensor):
    model = registry.build("mlp-30", 0).eval()
    small = compress.quantize(model, "static", images)
    assert small[1].weight.act_quant_scale.item() == pytest.approx(images.abs().max().item() / 127)


def test_a_wrong_kind_of_int8_is_refused(images: Tensor):
    with pytest.raises(UserError, match="dynamic or static"):
        compress.quantize(registry.build("mlp-30", 0), "fp4", images)


# -- names and costs -----------------------------------------------------------------------

RECIPES = [
    {"neurons": 50, "activation": 0, "rank": 0, "weights": 0},
    {"neurons": 0, "activation": 30, "rank": 40, "weights": 0},
    {"neurons": 30, "activation": 20, "rank": 50, "weights": 80},
]


@pytest.mark.parametrize(
    "name", ["linear", "mlp-128", "mlp-1200x2", "cnn-tiny", "cnn-separable", "vit-half", "mlp-7-5"]
)
@pytest.mark.parametrize("percents", RECIPES)
def test_a_name_is_enough_to_build_it(name: str, percents: dict[str, int], images: Tensor):
    smaller = registry.build(name, 0).eval()
    for _, smaller in compress.steps(smaller, percents, images):
        pass
    named = registry.build(compress.shaped(name, percents), 0).eval()
    assert {k: v.shape for k, v in named.state_dict().items()} == {
        k: v.shape for k, v in smaller.state_dict().items()
    }
    named.load_state_dict(smaller.state_dict())
    assert torch.allclose(named(images), smaller(images), atol=1e-5)
    assert size.network_size(compress.shaped(name, percents)).parameters == compress.cost(smaller).parameters


@pytest.mark.parametrize(
    "name",
    [
        "mlp-30_",
        "mlp-30_neurons",
        "mlp-30_neurons-0",
        "mlp-30_neurons-100",
        "mlp-30_rank-50_neurons-50",
        "mlp-30_rank-1_rank-1",
        "none_rank-50",
        "mlp-30_neurons-5O",
        "mlp-9999_rank-20",
        "_rank-20",
        "mlp-30_neurons--5",
    ],
)
def test_other_names_are_refused(name: str):
    with pytest.raises(UserError):
        registry.architecture(name)


def test_the_size_is_that_of_the_file(tmp_path: Path):
    model = compress.prune_weights(registry.build("mlp-30", 0), 0.9)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    cost = compress.cost(model)
    assert cost.file_bytes == (tmp_path / "model.safetensors").stat().st_size
    with zipfile.ZipFile(tmp_path / "model.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "model.safetensors", "model.safetensors")
    assert cost.zipped_bytes == pytest.approx((tmp_path / "model.zip").stat().st_size, abs=8)
    assert (cost.parameters, cost.nonzero) == (23_860, 23_860 - round(0.9 * 30 * 794))


def test_an_int8_file_holds_the_numbers(images: Tensor):
    small = compress.quantize(registry.build("mlp-30", 0), "static", images)
    held = load(compress.file(small))
    assert held["1.weight.qdata"].dtype == torch.int8 and held["1.weight.qdata"].shape == (30, 784)
    assert torch.equal(held["1.weight.qdata"], small[1].weight.qdata)
    assert len(io.BytesIO(compress.file(small)).getvalue()) == compress.cost(small).file_bytes


@pytest.mark.parametrize("share", [-0.1, 1.0, 2, float("nan"), "half", None])
@pytest.mark.parametrize("technique", [compress.prune_weights, compress.prune_neurons, compress.low_rank])
def test_bad_shares_are_refused(technique, share):
    with pytest.raises(UserError, match="at least 0 and less than 1"):
        technique(registry.build("mlp-30", 0), share)


@pytest.mark.parametrize("technique", [compress.prune_weights, compress.prune_neurons, compress.low_rank])
def test_nothing_taken_away_changes_nothing(technique):
    model = settled("cnn-tiny")
    assert identical(technique(model, 0), model)
