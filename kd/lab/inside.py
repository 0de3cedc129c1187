"""What a network has learned: its first layer as pictures, and what its last hidden layer makes of images."""

from __future__ import annotations

import numpy as np
import torch
from scipy.linalg import orthogonal_procrustes
from torch import Tensor, nn

from kd.data.task import MNIST
from kd.models import inference


def first_layer(model: nn.Module, count: int) -> Tensor | None:
    """(n, H, W) the weights into the first ``count`` units that see the image itself; None where no unit sees it so.

    Of a dense layer each is as large as the image, of a convolution as large as its window.
    """
    for layer in model.modules():
        if isinstance(layer, nn.Linear) and layer.in_features == MNIST.values:
            return layer.weight[:count].detach().unflatten(1, MNIST.image_shape[1:]).cpu().clone()
        if isinstance(layer, nn.Conv2d) and layer.in_channels == MNIST.channels:
            return layer.weight[:count, 0].detach().cpu().clone()
    return None


def penultimate(model: nn.Module, inputs: Tensor) -> Tensor | None:
    """(N, D) what the last layer of ``model`` sees of images (N, 1, 28, 28), maps averaged over their places; None without hidden layers."""
    found = []
    with torch.inference_mode():
        for part in inputs.split(inference.CHUNK):
            features = inference.outputs(model, part).features
            if not features:
                return None
            found.append(features[-1].flatten(2).mean(2) if features[-1].dim() == 4 else features[-1])
    return torch.cat(found).cpu()


def plane(features: Tensor) -> np.ndarray:
    """(N, D) features -> (N, 2) their places in the plane in which they differ most (PCA), of mean 0 and root mean square 1."""
    from sklearn.decomposition import PCA  # slow to import

    places = PCA(2, svd_solver="full").fit_transform(features.double().numpy())
    return _of_size_1(places)


def laid_on(places: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """(N, 2) ``places``, turned or mirrored so that they lie as near as they can to ``reference`` (N, 2).

    A plane's axes have no direction of their own: from one epoch to the next they could
    flip. Distances stay as they are. Source: Schoenemann 1966, orthogonal Procrustes.
    """
    turn, _ = orthogonal_procrustes(places, reference)
    return places @ turn


def _of_size_1(places: np.ndarray) -> np.ndarray:
    places = places - places.mean(0)
    return places / max(np.sqrt((places**2).sum(1).mean()), 1e-12)
