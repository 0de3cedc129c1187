"""Test our own layers against the same computation in NumPy."""

import math

import numpy as np
import pytest
import torch

from kd.models import layers, registry


def draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def numbers(module):
    """Return the weights of a module in double precision."""
    return {name: value.double().numpy() for name, value in module.state_dict().items()}


def normalized(x, weight, bias):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * weight + bias


def attention(x, w, heads):
    """Return self-attention over one image's tokens (L, width), head by head and token by token."""
    query, key, value = np.split(x @ w["query_key_value.weight"].T + w["query_key_value.bias"], 3, axis=1)
    size = x.shape[1] // heads
    mixed = np.zeros_like(x)
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        for i in range(len(x)):
            scores = np.exp([query[i, part] @ key[j, part] / math.sqrt(size) for j in range(len(x))])
            mixed[i, part] = scores / scores.sum() @ value[:, part]
    return mixed @ w["output.weight"].T + w["output.bias"]


def under(w, prefix):
    return {name.removeprefix(prefix): value for name, value in w.items() if name.startswith(prefix)}


@pytest.fixture
def vit():
    return registry.build("vit", 0).eval()


def test_block_matches_attention_and_mlp_in_numpy(vit):
    block, tokens = vit[1], draw(2, 5, vit[1].attention[1].output.out_features)
    w = numbers(block)
    erf = np.vectorize(math.erf)
    for token_rows, ours in zip(tokens.double().numpy(), block(tokens)):
        x = token_rows + attention(
            normalized(token_rows, w["attention.0.weight"], w["attention.0.bias"]),
            under(w, "attention.1."),
            block.attention[1].heads,
        )
        hidden = normalized(x, w["mlp.0.weight"], w["mlp.0.bias"]) @ w["mlp.1.weight"].T + w["mlp.1.bias"]
        gelu = hidden * 0.5 * (1 + erf(hidden / math.sqrt(2)))
        np.testing.assert_allclose(
            ours.detach().numpy(), x + gelu @ w["mlp.3.weight"].T + w["mlp.3.bias"], atol=1e-4
        )


def test_patches_are_linear_in_the_pixels_of_their_square():
    patches = layers.Patches(7, 6)
    with torch.no_grad():
        for weight in patches.parameters():
            weight.copy_(draw(*weight.shape))
    image = draw(1, 1, 28, 28)
    w = numbers(patches)
    tokens = patches(image)[0].detach().numpy()
    assert tokens.shape == (17, 6)
    np.testing.assert_allclose(tokens[0], w["class_token"][0, 0] + w["positions"][0, 0], rtol=1e-5)
    for place in range(16):
        down, right = 7 * (place // 4), 7 * (place % 4)
        square = image[0, 0, down : down + 7, right : right + 7].double().numpy()
        expected = (
            (w["embed.weight"][:, 0] * square).sum((1, 2)) + w["embed.bias"] + w["positions"][0, 1 + place]
        )
        np.testing.assert_allclose(tokens[1 + place], expected, rtol=1e-4, atol=1e-5)


def test_vit_logits_come_from_the_class_token_only(vit):
    images = draw(3, 1, 28, 28)
    tokens, w = vit[:-3](images), numbers(vit)
    classes = normalized(tokens[:, 0].detach().double().numpy(), w["7.weight"], w["7.bias"])
    np.testing.assert_allclose(
        vit(images).detach().numpy(), classes @ w["9.weight"].T + w["9.bias"], atol=1e-5
    )


def test_vit_logits_depend_on_patch_positions(vit):
    image = draw(1, 1, 28, 28)
    moved = torch.cat([image[:, :, 7:], image[:, :, :7]], 2)  # the same patches in other positions
    assert not torch.allclose(vit(image), vit(moved), atol=1e-4)


def test_vit_blocks_are_layers_of_the_sequential():
    assert [
        sum(isinstance(layer, layers.Block) for layer in registry.build(name, 0))
        for name in ("vit", "vit-half")
    ] == [6, 3]


def test_separable_convolution_is_depthwise_then_pointwise():
    network = registry.build("cnn-separable", 0)
    depthwise, pointwise = network[3], network[6]
    image = torch.zeros(1, depthwise.in_channels, 14, 14)
    image[0, 5, 7, 7] = 1
    assert set(depthwise(image)[0].nonzero()[:, 0].tolist()) == {5}
    assert {tuple(place) for place in pointwise(image)[0].nonzero()[:, 1:].tolist()} == {(7, 7)}
