"""Several networks computed at once, so that a small one does not wait for overhead.

At 128 images a batch, most of a small MLP's time goes into starting operations, not
into arithmetic. Student and control share their shape and their batches, so their
layers are stacked and each operation is started once for both.
"""

from __future__ import annotations

from typing import Sequence

import torch
from torch import Tensor, nn

from kd.models import Outputs, outputs
from kd.randomness import seed

Key = tuple[int | str, ...]


def parallel(models: list[nn.Module]) -> Stack | Separate:
    """How to compute ``models`` on the same batches: stacked where they are MLPs of one shape."""
    return Stack(models) if stackable(models) else Separate(models)


class Separate:
    """One model after the other, as they are."""

    def __init__(self, models: list[nn.Module]):
        self._models = models
        self._has_dropout = any(isinstance(module, nn.Dropout) for model in models for module in model.modules())
        self.parameters = [parameter for model in models for parameter in model.parameters()]

    def outputs(self, images: Tensor, key: Key, features: Sequence[bool] = ()) -> list[Outputs]:
        """What each model says. Dropout's masks depend on ``key`` alone and are the same for all.

        Args:
            features: for each model, whether its features are wanted; none are where it is empty.
        """
        said = []
        for model, wanted in zip(self._models, features or [False] * len(self._models)):
            if self._has_dropout:
                torch.manual_seed(seed(*key))  # dropout draws from the global generator
            said.append(outputs(model, images) if wanted else Outputs(model(images)))
        return said

    def gradients(self, losses: list[Tensor], others: Sequence[Tensor] = ()) -> list[Tensor]:
        """Of the sum of ``losses``, by each of ``parameters`` and then of ``others``."""
        return list(torch.autograd.grad(losses, [*self.parameters, *others]))


class Stack:
    """L multilayer perceptrons of one shape as batched matrix products.

    The models' own weights become views of one flat tensor, the only one in
    ``parameters``: training it trains the models, what is loaded into a model is in
    it, and the optimizer has one tensor to work on.
    """

    def __init__(self, models: list[nn.Module]):
        layers = list(zip(*(_linear(model) for model in models)))
        # (L, in, out): the other way round, each gradient would have to be transposed.
        weights = [torch.stack([layer.weight.detach().t() for layer in same]) for same in layers]
        biases = [torch.stack([layer.bias.detach() for layer in same]).unsqueeze(1) for same in layers]
        stacked = [tensor for pair in zip(weights, biases) for tensor in pair]
        flat = torch.cat([tensor.flatten() for tensor in stacked])
        views = _views(flat, stacked)
        for same, weight, bias in zip(layers, views[::2], views[1::2]):
            for layer, its_weight, its_bias in zip(same, weight, bias):
                layer.weight.data, layer.bias.data = its_weight.t(), its_bias[0]
        self.parameters = [flat]
        self._count = len(models)
        self._views = [view.requires_grad_() for view in views]

    def outputs(self, images: Tensor, key: Key, features: Sequence[bool] = ()) -> list[Outputs]:
        """What each model says: with its features where any model's are wanted, since they are there anyway."""
        hidden, wanted, kept = images.flatten(1).expand(self._count, -1, -1), any(features), []  # (L, N, in)
        for i, (weight, bias) in enumerate(zip(self._views[::2], self._views[1::2])):
            if i:
                hidden = hidden.relu()
                if wanted:
                    kept.append(hidden)
            hidden = torch.baddbmm(bias, hidden, weight)
        if not wanted:
            return [Outputs(logits) for logits in hidden.unbind()]
        return [Outputs(logits, tuple(its)) for logits, *its in zip(hidden.unbind(), *(feature.unbind() for feature in kept))]

    def gradients(self, losses: list[Tensor], others: Sequence[Tensor] = ()) -> list[Tensor]:
        """Of the sum of ``losses``, by the flat tensor and then by each of ``others``."""
        found = torch.autograd.grad(losses, [*self._views, *others])
        flat = torch.cat([gradient.flatten() for gradient in found[: len(self._views)]])
        return [flat, *found[len(self._views) :]]


class Wide:
    """L multilayer perceptrons of one shape for many L: the first layer of all is one product, since they see the same images.

    Forward and backward are written out, and all that passes is (L, features, N): so the first layers' weights, one under
    the other, are the matrix of one wide network, and whatever goes over the ten classes goes over neighbouring images. Measured
    with 32 mlp-30 and one thread: softmax 32 us instead of 710, the second layer 43 instead of 210. As in Stack the models'
    own weights become views of one flat tensor.
    """

    def __init__(self, models: list[nn.Module]):
        layers = list(zip(*(_linear(model) for model in models)))
        stacked = []
        for same in layers:
            stacked.append(torch.stack([layer.weight.detach() for layer in same]))  # (L, out, in)
            stacked.append(torch.stack([layer.bias.detach() for layer in same]).unsqueeze(2))
        flat = torch.cat([tensor.flatten() for tensor in stacked])
        self._weights = _views(flat, stacked)
        for same, weight, bias in zip(layers, self._weights[::2], self._weights[1::2]):
            for layer, its_weight, its_bias in zip(same, weight, bias):
                layer.weight.data, layer.bias.data = its_weight, its_bias.squeeze(1)
        self.parameters = [flat]
        self._flat_gradient = torch.empty_like(flat)
        self._gradients = _views(self._flat_gradient, stacked)
        self._seen: list[Tensor] = []  # what entered each layer of the last batch

    def logits(self, images: Tensor) -> Tensor:
        """(L, 10, N) for ``images`` (N, ...), which gradients() then speaks of."""
        entered = images.flatten(1)
        weight, bias = self._weights[:2]
        hidden = torch.addmm(bias.flatten(0, 1), weight.flatten(0, 1), entered.t()).unflatten(0, weight.shape[:2])
        self._seen = [entered]
        for weight, bias in zip(self._weights[2::2], self._weights[3::2]):
            self._seen.append(hidden.relu_())
            hidden = torch.baddbmm(bias, weight, hidden)
        return hidden

    def gradients(self, by_logits: Tensor) -> list[Tensor]:
        """Of a loss, by the flat tensor, where ``by_logits`` (L, 10, N) are those by the last logits. The next call writes over it."""
        back = by_logits
        for i in range(len(self._seen) - 1, 0, -1):
            entered, weight = self._seen[i], self._weights[2 * i]
            torch.bmm(back, entered.transpose(1, 2), out=self._gradients[2 * i])
            torch.sum(back, 2, keepdim=True, out=self._gradients[2 * i + 1])
            back = torch.ops.aten.threshold_backward(torch.bmm(weight.transpose(1, 2), back), entered, 0)
        torch.mm(back.flatten(0, 1), self._seen[0], out=self._gradients[0].flatten(0, 1))
        torch.sum(back, 2, keepdim=True, out=self._gradients[1])
        return [self._flat_gradient]


def stackable(models: list[nn.Module]) -> bool:
    """Whether all are multilayer perceptrons, Flatten, Linear, ReLU, Linear, ..., of the same sizes."""
    shapes = {repr(model) for model in models}
    return len(shapes) == 1 and all(type(model) is nn.Sequential and _plain(list(model)) for model in models)


def _views(flat: Tensor, shapes: list[Tensor]) -> list[Tensor]:
    """Parts of a flat tensor, one after the other, in the shapes of others."""
    return [part.view(tensor.shape) for part, tensor in zip(flat.split([tensor.numel() for tensor in shapes]), shapes)]


def _linear(model: nn.Module) -> list[nn.Linear]:
    return [layer for layer in model if isinstance(layer, nn.Linear)]


def _plain(layers: list[nn.Module]) -> bool:
    kinds = [type(layer) for layer in layers]
    hidden = (len(kinds) - 2) // 2
    return kinds == [nn.Flatten, *[nn.Linear, nn.ReLU] * hidden, nn.Linear]
