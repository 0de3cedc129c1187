"""First layers as pictures and features as maps."""

import numpy as np
import plotly.graph_objects as go
import pytest
import torch

from kd.figures import lab
from kd.lab import inside
from kd.models import registry


@pytest.mark.parametrize(
    "name, shape", [("mlp-128", (5, 28, 28)), ("linear", (5, 28, 28)), ("cnn-tiny", (5, 3, 3))]
)
def test_first_layer_weights_have_image_shape(name, shape):
    model = registry.build(name, 0)
    units = inside.first_layer(model, 5)
    assert units.shape == shape
    first = next(parameter for parameter in model.parameters() if parameter.dim() > 1)
    assert torch.equal(units[3].flatten(), first[3].flatten())
    with torch.no_grad():
        first.zero_()
    assert units.abs().max() > 0  # a copy, not the weights of a model in training


def test_penultimate_features_average_over_positions(mnist):
    inputs = mnist.test.inputs()[:100]
    mlp = registry.build("mlp-30", 0).eval()
    assert torch.allclose(mlp[-1](inside.penultimate(mlp, inputs)), mlp(inputs), atol=1e-5)
    cnn = registry.build("cnn-tiny", 0).eval()
    assert inside.penultimate(cnn, inputs).shape == (100, 32)
    assert inside.penultimate(registry.build("linear", 0), inputs) is None


def test_plane_shows_the_principal_components():
    draw = np.random.default_rng(0).normal(size=(500, 6)) * [0.1, 5, 0.1, 2, 0.1, 0.1]
    places = inside.plane(torch.from_numpy(draw))
    assert abs(np.corrcoef(places[:, 0], draw[:, 1])[0, 1]) > 0.99
    assert abs(np.corrcoef(places[:, 1], draw[:, 3])[0, 1]) > 0.99
    assert np.allclose(places.mean(0), 0) and (places**2).sum(1).mean() == pytest.approx(1)


def test_aligned_map_undoes_rotation_and_reflection():
    places = np.random.default_rng(1).normal(size=(50, 2)) * [2, 1]
    flipped = places * [-1, 1] @ np.array([[0.6, 0.8], [-0.8, 0.6]])
    assert np.allclose(inside.aligned(flipped, places), places)


def test_plotly_accepts_network_figures(mnist):
    go.Figure(lab.feature_map(np.zeros((3, 2)), torch.tensor([0, 1, 1]), "student"))
    go.Figure(lab.weights(torch.tensor([[[1.0, -0.5], [0.0, 0.25]]]), "student"))
