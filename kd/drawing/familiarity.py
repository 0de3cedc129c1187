"""Tell digits from letters and scribbles by what the teacher sees in them."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from kd.data.digits import Digits
from kd.models import inference


class Familiar:
    """Tells images that are like the digits a trained model knows from letters and scribbles.

    Logits hardly can: a scribble may lie as far on the side of 7 as a 7. With 1% of digits
    refused by each, "every model finds its highest probability low" refused 1% of drawn
    letters and 9% of scribbles. The layer before them can, in the teacher: an image is
    familiar where its features, averaged over places, are near some class's mean, in units
    of the spread within classes (Mahalanobis distance; Lee et al. 2018, arXiv 1807.03888).
    With 1% of digits refused, the shipped teacher refuses 83% of drawn letters and 80% of
    scribbles. An MLP's features are no better than its logits, so ask the teacher.

    Args:
        model: one of kd.models.registry, trained, in eval mode.
        digits: images that the model was not trained on; 1,000 or more.
        share: of real digits, how many may be called unfamiliar.
    """

    def __init__(self, model: nn.Module, digits: Digits, share: float = 0.01):
        self._body, self._channels = _without_last_layer(model)
        features = self._features(digits.inputs())
        # One half says what digits are like, the other how unlike they may be.
        known, judged = features[::2], features[1::2]
        classes, which = digits.labels[::2].unique(return_inverse=True)
        means = torch.stack([known[which == place].mean(0) for place in range(len(classes))])
        spread = torch.cov((known - means[which]).T)
        # Features that never vary would otherwise be divided by zero.
        spread += 0.01 * spread.diagonal().mean() * torch.eye(len(spread), device=spread.device)
        self._whiten = torch.linalg.cholesky(torch.linalg.inv(spread))
        self._means = means @ self._whiten
        self.limit = self._distance(judged).quantile(1 - share).item()

    def distance(self, inputs: Tensor) -> Tensor:
        """(N, 1, 28, 28) normalized images -> (N,) distance to the nearest class."""
        return self._distance(self._features(inputs))

    def knows(self, inputs: Tensor) -> Tensor:
        """(N, 1, 28, 28) normalized images -> (N,) bool: which look like a digit."""
        return self.distance(inputs) <= self.limit

    def _distance(self, features: Tensor) -> Tensor:
        return torch.cdist(features @ self._whiten, self._means).amin(1)

    def _features(self, inputs: Tensor) -> Tensor:
        """(N, F) what the last layer sees, averaged over places where there are any."""
        hidden = inference.logits_in_chunks(self._body, inputs)
        return hidden.unflatten(1, (self._channels, -1)).mean(2) if self._channels else hidden


def _without_last_layer(model: nn.Module) -> tuple[nn.Module, int]:
    """A copy of a network that gives what its last linear layer sees, and how many channels of places that is.

    It is (N, channels * places) where convolutions come right before the only linear layer; else channels is 0.
    """
    body = copy.deepcopy(model).eval()
    linear = [name for name, layer in body.named_modules() if isinstance(layer, nn.Linear)]
    channels = [layer.out_channels for layer in body.modules() if isinstance(layer, nn.Conv2d)]
    if linear:
        body.set_submodule(linear[-1], nn.Identity())
    return body, channels[-1] if channels and len(linear) == 1 else 0
