"""Stacked networks give what each gives by itself."""

import pytest
import torch
from torch import nn

from kd import batched, layers, models
from kd.batched import Separate, Stack
from kd.models import Outputs

IMAGES = torch.randn(50, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def build(name, count):
    return [models.build(name, seed) for seed in range(count)]


@pytest.mark.parametrize("name", ["linear", "mlp-30", "mlp-64-32-16"])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_logits_and_gradients_are_those_of_the_models(name, count):
    alone, together = build(name, count), build(name, count)
    stack = batched.parallel(together)
    assert isinstance(stack, Stack)
    logits = [said.logits for said in stack.outputs(IMAGES, ())]
    weights = [torch.randn(50, 10, generator=torch.Generator().manual_seed(i)) for i in range(count)]
    gradient, = stack.gradients([Outputs(weight) for weight in weights])
    for model, said, weight in zip(alone, logits, weights):
        torch.testing.assert_close(said, model(IMAGES), rtol=1e-4, atol=1e-5)
        (model(IMAGES) * weight).sum().backward()
    with torch.no_grad():  # a step along the gradient arrives in the models
        stack.parameters[0] -= 0.01 * gradient
    for model, its in zip(alone, together):
        for ours, theirs in zip(model.parameters(), its.parameters()):
            torch.testing.assert_close(theirs, ours - 0.01 * ours.grad, rtol=1e-3, atol=1e-4)


def test_what_is_loaded_into_a_model_is_in_the_stack():
    pair, other = build("mlp-30", 2), models.build("mlp-30", 9)
    stack = Stack(pair)
    pair[1].load_state_dict(other.state_dict())
    torch.testing.assert_close(stack.outputs(IMAGES, ())[1].logits, other(IMAGES), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "pair",
    [
        lambda: build("cnn-tiny", 2),
        lambda: build("vit-half", 2),
        lambda: [models.build("mlp-30", 0), models.build("mlp-40", 0)],
        lambda: [nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.ReLU()) for _ in range(2)],
        lambda: [nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(784, 10)) for _ in range(2)],
        lambda: [nn.Sequential(nn.Linear(784, 10)) for _ in range(2)],
    ],
    ids=["convolutions", "attention", "other widths", "ReLU last", "dropout", "no Flatten"],
)
def test_other_models_are_left_as_they_are(pair):
    assert isinstance(batched.parallel(pair()), Separate)


@pytest.mark.parametrize(
    "network",
    [
        lambda: nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(784, 10)),
        lambda: layers.transformer(2, side=14, width=8, heads=2, dropout=0.5),
    ],
    ids=["at the top", "deep within"],
)
def test_dropout_gives_all_models_the_same_masks_by_the_key_alone(network):
    pair = [network() for _ in range(2)]
    for weight in pair[0].parameters():
        nn.init.normal_(weight, std=0.1, generator=torch.Generator().manual_seed(0))
    pair[1].load_state_dict(pair[0].state_dict())
    networks = batched.parallel(pair)
    one, other = (said.logits for said in networks.outputs(IMAGES, (0, "dropout", 1)))
    assert torch.equal(one, other)
    torch.rand(7)
    assert torch.equal(one, networks.outputs(IMAGES, (0, "dropout", 1))[0].logits)
    assert not torch.equal(one, networks.outputs(IMAGES, (0, "dropout", 2))[0].logits)


@pytest.mark.parametrize(("name", "count"), [("mlp-64-32", 2), ("cnn-tiny", 3)])
def test_features_are_those_of_the_models_and_are_there_only_where_asked_for(name, count):
    pair = [models.build(name, seed).eval() for seed in (0, 1)]
    alone = [models.outputs(model, IMAGES) for model in pair]
    networks = batched.parallel(pair)
    assert all(said.features == () for said in networks.outputs(IMAGES, ()))
    first, second = networks.outputs(IMAGES, (), [True, False])
    assert len(first.features) == count and (isinstance(networks, Stack) or second.features == ())
    torch.testing.assert_close(first.features, alone[0].features, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close([first.logits, second.logits], [said.logits for said in alone], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["mlp-64-32", "cnn-tiny"])
def test_gradients_by_hidden_layers_go_on_down_from_there(name):
    pair = build(name, 2)
    networks = batched.parallel(pair)
    first, second = networks.outputs(IMAGES, (), [True, False])
    random = torch.Generator().manual_seed(0)
    by_feature = torch.randn(first.features[0].shape, generator=random)
    by_logits = [torch.randn(50, 10, generator=random) for _ in range(2)]
    found = networks.gradients([Outputs(by_logits[0], (by_feature, *[None] * (len(first.features) - 1))), Outputs(by_logits[1])])

    alone = build(name, 2)
    said = [models.outputs(model, IMAGES) for model in alone]
    loss = sum((its.logits * by).sum() for its, by in zip(said, by_logits)) + (said[0].features[0] * by_feature).sum()
    expected = torch.autograd.grad(loss, [parameter for model in alone for parameter in model.parameters()])
    if isinstance(networks, Stack):  # along its flat gradient the models' own weights move, views as they are
        before = [parameter.clone() for model in pair for parameter in model.parameters()]
        with torch.no_grad():
            networks.parameters[0] -= found[0]
        found = [old - new for old, new in zip(before, (parameter for model in pair for parameter in model.parameters()))]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
