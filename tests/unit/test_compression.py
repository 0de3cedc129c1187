"""Test compression against values worked out by hand and against networks with silenced neurons."""

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
from kd.models import compression, low_rank, pruning, quantization, registry
from kd.models.stored_size import stored_size, to_safetensors
from tests.helpers import identical, weights


@pytest.fixture
def images() -> Tensor:
    return torch.randn(40, *MNIST.image_shape, generator=torch.Generator().manual_seed(1))


def dense(*layers: list[list[float]]) -> nn.Sequential:
    """Return linear layers with these weights and no biases, and ReLU between them."""
    modules: list[nn.Module] = [nn.Flatten()]
    for rows in layers:
        layer = nn.Linear(len(rows[0]), len(rows))
        layer.weight.data, layer.bias.data = torch.tensor(rows), torch.zeros(len(rows))
        modules += [layer, nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def settled(name: str) -> nn.Module:
    """Return a network whose normalization layers have statistics as after training."""
    model = registry.build(name, 0)
    draw = torch.Generator().manual_seed(2)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for value in (layer.weight.data, layer.running_var):
                value.uniform_(0.5, 2.0, generator=draw)
            for value in (layer.bias.data, layer.running_mean):
                value.uniform_(-0.3, 0.3, generator=draw)
    return model.eval()


# -- weights ---------------------------------------------------------------------------------


def test_prune_weights_removes_the_smallest_of_all_layers():
    model = dense([[1.0, -0.1], [0.4, 3.0]], [[-0.2, 2.0]])
    pruned = pruning.prune_weights(model, 0.5)
    assert pruned[1].weight.tolist() == [[1.0, 0.0], [0.0, 3.0]]  # 0.1, 0.2 and 0.4 go, in whichever layer
    assert pruned[3].weight.tolist() == [[0.0, 2.0]]


def test_prune_weights_removes_earlier_of_equal_weights():
    pruned = pruning.prune_weights(dense([[1.0, -1.0], [1.0, 1.0]]), 0.5)
    assert pruned[1].weight.tolist() == [[0.0, 0.0], [1.0, 1.0]]


def test_compression_leaves_the_original_unchanged(images: Tensor):
    model = settled("cnn-tiny")
    before = weights(model)
    for _, smaller in compression.steps(
        model, {"neurons": 30, "activation": 30, "rank": 30, "weights": 30}, images
    ):
        assert not identical(smaller, before)
    quantization.quantize(model, "static", images)
    assert identical(model, before) and not model.training


@pytest.mark.parametrize("name", ["mlp-30", "cnn-tiny", "vit-half"])
def test_biases_and_normalization_are_not_pruned(name: str):
    model, pruned = settled(name), pruning.prune_weights(settled(name), 0.9)
    for key, layer in model.named_modules():
        if isinstance(layer, (nn.BatchNorm2d, nn.LayerNorm)):
            assert identical(layer, pruned.get_submodule(key))
        elif isinstance(layer, nn.Linear):
            assert torch.equal(layer.bias, pruned.get_submodule(key).bias)


@pytest.mark.parametrize("name", ["mlp-30", "cnn-tiny", "mlp-1200x2"])
def test_masked_zeros_stay_zero_and_the_rest_learns(name: str, images: Tensor):
    pruned = pruning.prune_weights(settled(name), 0.7)
    model = pruning.with_masks(pruned)
    with torch.no_grad():
        assert torch.allclose(model(images), pruned(images), atol=1e-5)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), 0.1, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(images).square().sum().backward()
        optimizer.step()
    before, after = pruned.state_dict(), model.state_dict()
    assert before.keys() == after.keys()  # a mask is not part of the state dict
    for key, layer in pruned.named_modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            zero = before[f"{key}.weight"] == 0
            assert zero.any() and not after[f"{key}.weight"][zero].any()
            assert (after[f"{key}.weight"] != before[f"{key}.weight"])[~zero].any()


def test_network_without_zeros_gets_no_masks():
    assert repr(pruning.with_masks(registry.build("mlp-30", 0))) == repr(registry.build("mlp-30", 0))


# -- neurons -------------------------------------------------------------------------------


def test_prune_neurons_removes_the_smallest_weight_sums():
    model = dense([[1.0, -1.0], [0.1, 0.2], [0.0, 3.0], [-0.5, 0.4]], [[1.0, 2.0, 3.0, 4.0]])
    model[1].bias.data = torch.tensor([10.0, 20.0, 30.0, 40.0])
    pruned = pruning.prune_neurons(model, 0.5)  # absolute sums 2, 0.3, 3, 0.9
    assert pruned[1].weight.tolist() == [[1.0, -1.0], [0.0, 3.0]]
    assert pruned[1].bias.tolist() == [10.0, 30.0]
    assert pruned[3].weight.tolist() == [[1.0, 3.0]]
    assert (pruned[1].out_features, pruned[3].in_features) == (2, 2)


def test_prune_neurons_removes_the_smallest_activations():
    model = dense([[5.0, -5.0], [0.1, 0.1], [0.0, 1.0]], [[1.0, 2.0, 3.0]])
    seen = torch.tensor([[1.0, 3.0], [2.0, 2.0]]).view(2, 1, 1, 2)
    # Mean activations are 0, 0.4 and 2.5: the neuron with the largest weights is never active.
    pruned = pruning.prune_neurons(model, 1 / 3, seen)
    assert pruned[1].weight.tolist() == [[pytest.approx(0.1)] * 2, [0.0, 1.0]]


def test_prune_neurons_removes_later_of_equal_neurons():
    assert pruning.prune_neurons(dense([[1.0], [1.0], [1.0]], [[1.0, 2.0, 3.0]]), 0.4)[3].weight.tolist() == [
        [1.0, 2.0]
    ]


def test_prune_neurons_keeps_one_per_layer():
    pruned = pruning.prune_neurons(registry.build("mlp-30", 0), 0.99)
    assert [layer.out_features for layer in pruned if isinstance(layer, nn.Linear)] == [1, 10]


def test_channel_importance_includes_normalization():
    model = registry.build("cnn-tiny", 0).eval()
    model[0].weight.data[3] = 1.0  # the largest filter of 8, which normalization makes the smallest
    model[1].weight.data[3] = 1e-3
    kept = pruning.prune_neurons(model, 1 / 8)[0].weight
    assert torch.equal(kept, model[0].weight[[0, 1, 2, 4, 5, 6, 7]])


@pytest.mark.parametrize("by_activation", [False, True])
@pytest.mark.parametrize(
    "name", ["mlp-30", "mlp-24-16", "mlp-1200x2", "cnn-tiny", "cnn-separable", "cnn", "vit-half"]
)
def test_pruned_network_equals_one_with_silenced_neurons(name: str, by_activation: bool, images: Tensor):
    model = settled(name)
    pruned = pruning.prune_neurons(model, 0.4, images if by_activation else None)
    silenced = copy.deepcopy(model)
    activations = [layer for layer in silenced.modules() if isinstance(layer, (nn.ReLU, nn.GELU))]
    for layer, missing in zip(activations, removed(model, pruned), strict=True):
        layer.register_forward_hook(silence(missing))
    with torch.no_grad():
        assert torch.allclose(pruned(images), silenced(images), atol=1e-5)
    assert stored_size(pruned).parameters < stored_size(model).parameters


def removed(model: nn.Module, pruned: nn.Module) -> list[list[int]]:
    """Return the removed outputs of each layer that lost some.

    An output was removed if its bias, the layer's own or the normalization's, is gone.
    """
    missing = []
    for before, after in zip(model.modules(), pruned.modules()):
        if isinstance(before, (nn.Linear, nn.BatchNorm2d)) and len(after.bias) < len(before.bias):
            kept = set(after.bias.tolist())
            missing.append([i for i, value in enumerate(before.bias.tolist()) if value not in kept])
    return missing


def silence(missing: list[int]):
    """Return a hook that sets these outputs of a layer to 0."""

    def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        output = output.clone()
        (output if output.dim() == 4 else output.movedim(-1, 1))[:, missing] = 0
        return output

    return hook


# -- low rank ------------------------------------------------------------------------------


def test_factors_of_full_rank_equal_the_layer(images: Tensor):
    layer = registry.build("mlp-30", 0)[1]
    pair = low_rank.factored(layer, 30)
    inputs = images.flatten(1)
    assert torch.allclose(pair(inputs), layer(inputs), atol=1e-5)


def test_factored_error_is_the_dropped_singular_values():
    layer = nn.Linear(3, 3)
    layer.weight.data = torch.diag(torch.tensor([3.0, 2.0, 1.0]))
    pair = low_rank.factored(layer, 1)
    error = pair[1].weight @ pair[0].weight - layer.weight
    assert error.square().sum().item() == pytest.approx(2.0**2 + 1.0**2, abs=1e-5)
    assert torch.equal(pair[1].bias, layer.bias)


def test_convolution_is_factored_into_two(images: Tensor):
    layer = nn.Conv2d(1, 8, 3, stride=2, padding=1, bias=False)
    assert torch.allclose(low_rank.factored(layer, 8)(images), layer(images), atol=1e-5)
    values = torch.linalg.svdvals(layer.weight.detach().flatten(1))
    pair = low_rank.factored(layer, 5)
    product = (pair[1].weight.flatten(1) @ pair[0].weight.flatten(1)).detach()
    assert (product - layer.weight.detach().flatten(1)).square().sum().item() == pytest.approx(
        values[5:].square().sum().item(), abs=1e-5
    )


def test_rank_is_the_largest_that_saves_the_share():
    model = low_rank.low_rank(registry.build("mlp-128", 0), 0.5)
    first = model[1]
    assert isinstance(first, low_rank.Factored)
    assert first[0].out_features == int(0.5 * 784 * 128 / (784 + 128)) == 55
    assert isinstance(model[3], nn.Linear)  # the last layer stays


def test_layer_that_would_not_shrink_is_not_factored():
    model = registry.build("mlp-1", 0)  # a single unit has rank 1, and two layers would be larger
    assert repr(low_rank.low_rank(model, 0.9)) == repr(model)


# -- int8 ----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["dynamic", "static"])
@pytest.mark.parametrize("name", ["mlp-30", "cnn-tiny", "vit-half", "mlp-30_rank-50"])
def test_int8_logits_are_close(name: str, how: str, images: Tensor):
    model = settled(name)
    small = quantization.quantize(model, how, images)
    with torch.no_grad():
        assert (small(images) - model(images)).abs().max() < 0.05 * model(images).abs().max()
        assert not torch.equal(small(images), model(images))
    assert stored_size(small).file_bytes < stored_size(model).file_bytes


def test_int8_weight_is_off_by_at_most_half_a_step():
    layer = nn.Linear(50, 4)
    small = quantization.quantize(nn.Sequential(layer), "dynamic", torch.zeros(1, 50))
    step = layer.weight.detach().abs().max(1, keepdim=True).values / 127.5
    assert ((small[0].weight.dequantize() - layer.weight.detach()).abs() <= step / 2 * 1.02).all()
    assert small[0].weight.qdata.dtype == torch.int8


def test_static_scales_come_from_the_images(images: Tensor):
    model = registry.build("mlp-30", 0).eval()
    small = quantization.quantize(model, "static", images)
    assert small[1].weight.act_quant_scale.item() == pytest.approx(images.abs().max().item() / 127)


def test_unknown_int8_mode_is_refused(images: Tensor):
    with pytest.raises(UserError, match="dynamic or static"):
        quantization.quantize(registry.build("mlp-30", 0), "fp4", images)


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
def test_compressed_network_can_be_built_from_its_name(name: str, percents: dict[str, int], images: Tensor):
    _, smaller = list(compression.steps(registry.build(name, 0).eval(), percents, images))[-1]
    named = registry.build(compression.compressed_name(name, percents), 0).eval()
    assert {k: v.shape for k, v in named.state_dict().items()} == {
        k: v.shape for k, v in smaller.state_dict().items()
    }
    named.load_state_dict(smaller.state_dict())
    assert torch.allclose(named(images), smaller(images), atol=1e-5)
    assert (
        size.network_size(compression.compressed_name(name, percents)).parameters
        == stored_size(smaller).parameters
    )


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
def test_malformed_compressed_names_are_refused(name: str):
    with pytest.raises(UserError):
        registry.architecture(name)


def test_stored_size_is_that_of_the_file(tmp_path: Path):
    model = pruning.prune_weights(registry.build("mlp-30", 0), 0.9)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    cost = stored_size(model)
    assert cost.file_bytes == (tmp_path / "model.safetensors").stat().st_size
    with zipfile.ZipFile(tmp_path / "model.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "model.safetensors", "model.safetensors")
    assert cost.zipped_bytes == pytest.approx((tmp_path / "model.zip").stat().st_size, abs=8)
    assert (cost.parameters, cost.nonzero) == (23_860, 23_860 - round(0.9 * 30 * 794))


def test_int8_file_holds_the_integers(images: Tensor):
    small = quantization.quantize(registry.build("mlp-30", 0), "static", images)
    held = load(to_safetensors(small))
    assert held["1.weight.qdata"].dtype == torch.int8 and held["1.weight.qdata"].shape == (30, 784)
    assert torch.equal(held["1.weight.qdata"], small[1].weight.qdata)
    assert len(io.BytesIO(to_safetensors(small)).getvalue()) == stored_size(small).file_bytes


@pytest.mark.parametrize("share", [-0.1, 1.0, 2, float("nan"), "half", None])
@pytest.mark.parametrize("technique", [pruning.prune_weights, pruning.prune_neurons, low_rank.low_rank])
def test_invalid_shares_are_refused(technique, share):
    with pytest.raises(UserError, match="at least 0 and less than 1"):
        technique(registry.build("mlp-30", 0), share)


@pytest.mark.parametrize("technique", [pruning.prune_weights, pruning.prune_neurons, low_rank.low_rank])
def test_share_of_zero_changes_nothing(technique):
    model = settled("cnn-tiny")
    assert identical(technique(model, 0), model)


@pytest.mark.parametrize("how", quantization.INT8[1:])
def test_layer_with_a_single_input_stays_as_it_is(how):
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 1), nn.ReLU(), nn.Linear(1, 10))
    images = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    small = quantization.quantize(model, how, images)
    assert torch.equal(small[3].weight, model[3].weight)
    assert torch.allclose(small(images), model(images), atol=0.05)
