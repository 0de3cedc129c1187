"""Analytic gradients equal those of autograd."""

import pytest
import torch
from torch import nn

from kd.models import inference, layers, registry
from kd.models.inference import Outputs
from kd.training import forward_backward
from kd.training.forward_backward import Autograd, Perceptron, WidePerceptrons

IMAGES = torch.randn(50, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def build(name, count):
    return [registry.build(name, seed) for seed in range(count)]


def a_step_along(flat, gradient, models):
    """Return the change of each model's own weights (views) after a step along the flat gradient."""
    before = [parameter.clone() for model in models for parameter in model.parameters()]
    with torch.no_grad():
        flat -= gradient
    return [
        old - new
        for old, new in zip(before, (parameter for model in models for parameter in model.parameters()))
    ]


@pytest.mark.parametrize("name", ["linear", "mlp-30", "mlp-64-32-16"])
def test_logits_and_gradients_of_a_perceptron_equal_autograd(name):
    (alone,), (model,) = build(name, 1), build(name, 1)
    network = forward_backward.choose_passes(model)
    assert isinstance(network, Perceptron)
    torch.testing.assert_close(network.outputs(IMAGES, ()).logits, alone(IMAGES), rtol=1e-4, atol=1e-5)
    (gradient,) = network.gradients(Outputs(normal(50, 10)))
    expected = torch.autograd.grad((alone(IMAGES) * normal(50, 10)).sum(), list(alone.parameters()))
    for ours, theirs in zip(a_step_along(network.parameters[0], gradient, [model]), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["linear", "mlp-30", "mlp-64-32-16"])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_logits_and_gradients_of_many_equal_those_of_each(name, count):
    alone, together = build(name, count), build(name, count)
    wide = WidePerceptrons(together)
    logits = wide.logits(IMAGES)
    by_logits = normal(count, 10, 50)
    (gradient,) = wide.backward(by_logits)
    found = a_step_along(wide.parameters[0], gradient, together)
    for i, model in enumerate(alone):
        torch.testing.assert_close(logits[i].t(), model(IMAGES), rtol=1e-4, atol=1e-5)
    loss = sum((model(IMAGES) * by.t()).sum() for model, by in zip(alone, by_logits))
    expected = torch.autograd.grad(loss, [parameter for model in alone for parameter in model.parameters()])
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_passes_use_weights_loaded_into_the_model():
    model, other = registry.build("mlp-30", 1), registry.build("mlp-30", 9)
    network = Perceptron(model)
    model.load_state_dict(other.state_dict())
    torch.testing.assert_close(network.outputs(IMAGES, ()).logits, other(IMAGES), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "model",
    [
        lambda: registry.build("cnn-tiny", 0),
        lambda: registry.build("vit-half", 0),
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.ReLU()),
        lambda: nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(784, 10)),
        lambda: nn.Sequential(nn.Linear(784, 10)),
    ],
    ids=["convolutions", "attention", "ReLU last", "dropout", "no Flatten"],
)
def test_other_models_are_left_to_autograd(model):
    assert isinstance(forward_backward.choose_passes(model()), Autograd)


def test_perceptrons_of_different_widths_are_not_stacked():
    assert forward_backward.same_perceptrons(build("mlp-30", 2))
    assert not forward_backward.same_perceptrons([registry.build("mlp-30", 0), registry.build("mlp-40", 0)])


@pytest.mark.parametrize(
    "network",
    [
        lambda: nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(784, 10)),
        lambda: layers.transformer(2, side=14, width=8, heads=2, dropout=0.5),
    ],
    ids=["at the top", "deep within"],
)
def test_dropout_masks_depend_only_on_the_key(network):
    model = network()
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.1, generator=torch.Generator().manual_seed(0))
    network = forward_backward.choose_passes(model)
    one = network.outputs(IMAGES, (0, "dropout", 1)).logits
    torch.rand(7)
    assert torch.equal(one, network.outputs(IMAGES, (0, "dropout", 1)).logits)
    assert not torch.equal(one, network.outputs(IMAGES, (0, "dropout", 2)).logits)


@pytest.mark.parametrize(("name", "count"), [("mlp-64-32", 2), ("cnn-tiny", 3)])
def test_features_equal_the_models_and_exist_only_on_request(name, count):
    model = registry.build(name, 0).eval()
    alone = inference.outputs(model, IMAGES)
    network = forward_backward.choose_passes(model)
    assert network.outputs(IMAGES, ()).features == ()
    said = network.outputs(IMAGES, (), features=True)
    assert len(said.features) == count
    torch.testing.assert_close(said.features, alone.features, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(said.logits, alone.logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["mlp-64-32", "cnn-tiny"])
def test_gradients_of_hidden_layers_propagate_to_earlier_layers(name):
    (model,), (alone,) = build(name, 1), build(name, 1)
    network = forward_backward.choose_passes(model)
    said = network.outputs(IMAGES, (), features=True)
    by_feature, by_logits = normal(*said.features[0].shape), normal(50, 10, seed=1)
    found = network.gradients(Outputs(by_logits, (by_feature, *[None] * (len(said.features) - 1))))

    theirs = inference.outputs(alone, IMAGES)
    expected = torch.autograd.grad(
        (theirs.logits * by_logits).sum() + (theirs.features[0] * by_feature).sum(), list(alone.parameters())
    )
    if isinstance(network, Perceptron):
        found = a_step_along(network.parameters[0], found[0], [model])
    for ours, autograds in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, autograds, rtol=1e-3, atol=1e-3)


def test_bfloat16_gives_nearly_the_gradients_of_float32():
    images, gradient = IMAGES.reshape(50, 1, 28, 28), normal(50, 10)
    found = {}
    for precision in forward_backward.PRECISIONS:
        network = forward_backward.choose_passes(build("cnn-tiny", 1)[0], precision)
        outputs = network.outputs(images, (), features=True)
        assert all(value.dtype == torch.float32 for value in (outputs.logits, *outputs.features))
        gradients = network.gradients(Outputs(gradient, (None,) * len(outputs.features)))
        assert all(value.dtype == torch.float32 for value in gradients)
        found[precision] = torch.cat([value.flatten() for value in gradients])
    similarity = torch.cosine_similarity(found["float32"], found["bfloat16"], 0)
    assert 0.98 < similarity and not torch.equal(found["float32"], found["bfloat16"])


def test_perceptrons_are_computed_in_float32_always():
    networks = [forward_backward.choose_passes(build("mlp-30", 1)[0], p) for p in forward_backward.PRECISIONS]
    first, second = (network.outputs(IMAGES, ()).logits for network in networks)
    assert torch.equal(first, second)
