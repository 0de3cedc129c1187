"""Tell digits from letters and scribbles by the teacher's features."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from kd.data.digits import Digits
from kd.models import inference


class Familiar:
    """Decide whether an image looks like the digits that a trained network knows.

    Logits are of little use: a scribble can be as clearly a 7 as a real 7 is. At a threshold that rejects 1%
    of the digits, a low highest probability in every model rejected 1% of drawn letters and 9% of
    scribbles. The teacher's features before the last layer work better. An image is familiar if these
    features, averaged over positions, are near the mean of a class, in units of the spread within classes
    (Mahalanobis distance). With 1% of digits rejected, the shipped teacher rejects 83% of drawn letters and
    80% of scribbles. An MLP's features are no better than its logits, so use the teacher's.

    Source: Lee et al. 2018 (arXiv 1807.03888).

    Args:
        model: a trained network of kd.models.registry, in eval mode.
        digits: at least 1,000 images that the network was not trained on.
        share: share of real digits that may be called unfamiliar.
    """

    def __init__(self, model: nn.Module, digits: Digits, share: float = 0.01):
        self._body, self._channels = _without_last_layer(model)
        features = self._features(digits.inputs())
        # One half sets the means and the spread, the other the threshold.
        fitted, held_out = features[::2], features[1::2]
        classes, which = digits.labels[::2].unique(return_inverse=True)
        means = torch.stack([fitted[which == place].mean(0) for place in range(len(classes))])
        spread = torch.cov((fitted - means[which]).T)
        # Avoid dividing by zero for features that never vary.
        spread += 0.01 * spread.diagonal().mean() * torch.eye(len(spread), device=spread.device)
        self._whiten = torch.linalg.cholesky(torch.linalg.inv(spread))
        self._means = means @ self._whiten
        self.limit = self._distance(held_out).quantile(1 - share).item()

    def distance(self, inputs: Tensor) -> Tensor:
        """Return the distance of normalized images, (N, C, H, W), to the nearest class, (N,)."""
        return self._distance(self._features(inputs))

    def knows(self, inputs: Tensor) -> Tensor:
        """Return which normalized images, (N, C, H, W), look like a digit, (N,) bool."""
        return self.distance(inputs) <= self.limit

    def network(self) -> nn.Module:
        """Return this test as a network, to export it: (N, C, H, W) normalized -> (N,) unfamiliarity.

        Unfamiliarity is the distance divided by the limit: above 1, an image does not look like a digit.
        """
        return _Unfamiliarity(self._body, self._channels, self._whiten, self._means, self.limit).eval()

    def _distance(self, features: Tensor) -> Tensor:
        return torch.cdist(features @ self._whiten, self._means).amin(1)

    def _features(self, inputs: Tensor) -> Tensor:
        """Return the input of the last layer, (N, F), averaged over positions if there are any."""
        return _averaged(inference.logits_in_chunks(self._body, inputs), self._channels)


class _Unfamiliarity(nn.Module):
    """The test of Familiar as a network."""

    whiten: Tensor
    means: Tensor

    def __init__(self, body: nn.Module, channels: int, whiten: Tensor, means: Tensor, limit: float):
        super().__init__()
        self.body, self.channels, self.limit = body, channels, limit
        self.register_buffer("whiten", whiten)
        self.register_buffer("means", means)

    def forward(self, inputs: Tensor) -> Tensor:
        features = _averaged(self.body(inputs), self.channels) @ self.whiten
        # Not torch.cdist, which exporters do not know for any batch size.
        return (features.unsqueeze(1) - self.means).square().sum(2).amin(1).sqrt() / self.limit


def _averaged(hidden: Tensor, channels: int) -> Tensor:
    """Return features (N, F), averaged over positions if they come from ``channels`` channels."""
    return hidden.unflatten(1, (channels, -1)).mean(2) if channels else hidden


def _without_last_layer(model: nn.Module) -> tuple[nn.Module, int]:
    """Return a copy of a network that outputs the input of its last linear layer, and its number of channels.

    The output is (N, channels * positions) if convolutions come right before the only linear layer; otherwise
    the number of channels is 0.
    """
    body = copy.deepcopy(model).eval()
    linear = [name for name, layer in body.named_modules() if isinstance(layer, nn.Linear)]
    channels = [layer.out_channels for layer in body.modules() if isinstance(layer, nn.Conv2d)]
    if linear:
        body.set_submodule(linear[-1], nn.Identity())
    return body, channels[-1] if channels and len(linear) == 1 else 0
