"""Show what a network has learned: the weights of its first layer and its last hidden features."""

from __future__ import annotations

import numpy as np
import torch
from scipy.linalg import orthogonal_procrustes
from torch import Tensor, nn

from kd.data.task import MNIST
from kd.models import inference


def first_layer(model: nn.Module, count: int) -> Tensor | None:
    """Return the input weights (n, H, W) of up to ``count`` units of the first layer.

    H and W are the image's size for a dense layer and the kernel's size for a convolution. None if no
    layer reads the image directly.
    """
    for layer in model.modules():
        if isinstance(layer, nn.Linear) and layer.in_features == MNIST.values:
            return layer.weight[:count].detach().unflatten(1, MNIST.image_shape[1:]).cpu().clone()
        if isinstance(layer, nn.Conv2d) and layer.in_channels == MNIST.channels:
            return layer.weight[:count, 0].detach().cpu().clone()
    return None


def penultimate(model: nn.Module, inputs: Tensor) -> Tensor | None:
    """Return the last hidden features (N, D) for images (N, C, H, W), or None without hidden layers.

    Feature maps are averaged over their positions.
    """
    parts = []
    with torch.inference_mode():
        for part in inputs.split(inference.CHUNK):
            features = inference.outputs(model, part).features
            if not features:
                return None
            parts.append(features[-1].flatten(2).mean(2) if features[-1].dim() == 4 else features[-1])
    return torch.cat(parts).cpu()


def plane(features: Tensor) -> np.ndarray:
    """Project features (N, D) to their first two principal components, (N, 2), with mean 0 and RMS 1."""
    from sklearn.decomposition import PCA  # slow to import

    return _normalized(PCA(2, svd_solver="full").fit_transform(features.double().numpy()))


def aligned(places: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Rotate or mirror ``places`` (N, 2) so that they are as close as possible to ``reference`` (N, 2).

    The sign of a principal component is arbitrary, so from one epoch to the next a map could flip.
    Distances do not change. Source: Schoenemann 1966, orthogonal Procrustes.
    """
    turn, _ = orthogonal_procrustes(places, reference)
    return places @ turn


def _normalized(places: np.ndarray) -> np.ndarray:
    """Shift and scale points (N, 2) to mean 0 and RMS 1."""
    places = places - places.mean(0)
    return places / max(np.sqrt((places**2).sum(1).mean()), 1e-12)
