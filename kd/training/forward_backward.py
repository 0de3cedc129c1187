"""A network's forward and backward pass in training.

At 128 images a batch, most of a small network's time goes into starting operations, not into arithmetic. So those of
multilayer perceptrons are written out, and none is noted for autograd; of many perceptrons of one shape each is started
once for all. Other networks are left to autograd.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kd.models.inference import Outputs, outputs
from kd.randomness import seed

Key = tuple[int | str, ...]


def passes(model: nn.Module) -> Perceptron | Autograd:
    """How to compute ``model``."""
    return Perceptron(model) if alike([model]) else Autograd(model)


def has_dropout(model: nn.Module) -> bool:
    return any(isinstance(module, nn.Dropout) for module in model.modules())


class Autograd:
    """A network as it is."""

    def __init__(self, model: nn.Module):
        self._model, self._has_dropout = model, has_dropout(model)
        self.parameters = list(model.parameters())
        self._said = Outputs(torch.empty(0))  # with its graph

    def outputs(self, images: Tensor, key: Key, features: bool = False) -> Outputs:
        """What the network says, detached; with its features where they are wanted. Dropout's masks depend on ``key`` alone."""
        if self._has_dropout:
            torch.manual_seed(seed(*key))  # dropout draws from the global generator
        self._said = said = outputs(self._model, images) if features else Outputs(self._model(images))
        return Outputs(said.logits.detach(), tuple(feature.detach() for feature in said.features))

    def gradients(self, by: Outputs) -> list[Tensor]:
        """By each of ``parameters``, of a loss whose gradients by the last outputs are given, None by features that do not matter."""
        pairs = [
            (end, start)
            for end, start in zip((self._said.logits, *self._said.features), (by.logits, *by.features))
            if start is not None
        ]
        self._said = Outputs(torch.empty(0))
        ends, starts = zip(*pairs)
        return list(torch.autograd.grad(ends, self.parameters, starts))


class _WrittenOut:
    """Multilayer perceptrons of one shape, without autograd.

    The models' own weights become views of one flat tensor, the only one in ``parameters``: training it trains the models,
    what is loaded into a model is in it, and the optimizer has one tensor to work on. All that passes is (..., features, N),
    so that no gradient has to be transposed.
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

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """(..., 10, N) for ``images`` (N, ...)."""
        entered = images.flatten(1)
        hidden = self._first(entered, *self._weights[:2])
        self._seen = [entered]
        for weight, bias in zip(self._weights[2::2], self._weights[3::2]):
            self._seen.append(hidden.relu_())
            hidden = self._layer(bias, weight, hidden)
        return hidden

    @torch.no_grad()
    def backward(self, by_logits: Tensor, by_hidden: Sequence[Tensor | None] = ()) -> list[Tensor]:
        """By the flat tensor, of a loss whose gradients by the last logits (..., 10, N) and hidden layers (..., D, N) are given.

        The next call writes over it.
        """
        back = by_logits
        for i in range(len(self._seen) - 1, 0, -1):
            entered, weight = self._seen[i], self._weights[2 * i]
            self._product(back, entered.mT, out=self._gradients[2 * i])
            torch.sum(back, -1, keepdim=True, out=self._gradients[2 * i + 1])
            back = self._product(weight.mT, back)
            if by_hidden and by_hidden[i - 1] is not None:
                back += by_hidden[i - 1]
            back = torch.ops.aten.threshold_backward(back, entered, 0)
        self._first_gradient(back, self._seen[0], self._gradients[0])
        torch.sum(back, -1, keepdim=True, out=self._gradients[1])
        return [self._flat_gradient]


class Perceptron(_WrittenOut):
    """One multilayer perceptron."""

    _product, _layer = staticmethod(torch.mm), staticmethod(torch.addmm)

    def __init__(self, model: nn.Module):
        super().__init__([model])
        self._weights, self._gradients = (
            [its for (its,) in same] for same in (self._weights, self._gradients)
        )

    def outputs(self, images: Tensor, key: Key, features: bool = False) -> Outputs:
        """As Autograd's."""
        said = self.logits(images).t().contiguous()
        return Outputs(said, tuple(hidden.t() for hidden in self._seen[1:]) if features else ())

    def gradients(self, by: Outputs) -> list[Tensor]:
        """As Autograd's, by the flat tensor. The next call writes over it."""
        return self.backward(by.logits.t(), [one if one is None else one.t() for one in by.features])

    def _first(self, images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """The first layer, of images (N, 784): (D, N)."""
        return torch.addmm(bias, weight, images.t())

    def _first_gradient(self, back: Tensor, images: Tensor, out: Tensor) -> None:
        """By the first layer's weights (D, 784), from that by what it says (D, N)."""
        torch.mm(back, images, out=out)


class Wide(_WrittenOut):
    """L multilayer perceptrons, whose first layers' weights, one under the other, are the matrix of one wide network.

    Measured with 32 mlp-30 and one thread, against batches of (N, features): softmax over neighbouring images 32 us instead of
    710, the second layer 43 instead of 210. What each comes to may differ in the last bits from what it comes to by itself.
    """

    _product, _layer = staticmethod(torch.bmm), staticmethod(torch.baddbmm)

    def _first(self, images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.addmm(bias.flatten(0, 1), weight.flatten(0, 1), images.t()).unflatten(
            0, weight.shape[:2]
        )

    def _first_gradient(self, back: Tensor, images: Tensor, out: Tensor) -> None:
        torch.mm(back.flatten(0, 1), images, out=out.flatten(0, 1))


def alike(models: list[nn.Module]) -> bool:
    """Whether all are multilayer perceptrons, Flatten, Linear, ReLU, Linear, ..., of the same sizes."""
    shapes = {repr(model) for model in models}
    return len(shapes) == 1 and all(type(model) is nn.Sequential and _plain(list(model)) for model in models)


def _views(flat: Tensor, shapes: list[Tensor]) -> list[Tensor]:
    """Parts of a flat tensor, one after the other, in the shapes of others."""
    return [
        part.view(tensor.shape)
        for part, tensor in zip(flat.split([tensor.numel() for tensor in shapes]), shapes)
    ]


def _linear(model: nn.Module) -> list[nn.Linear]:
    return [layer for layer in model if isinstance(layer, nn.Linear)]


def _plain(layers: list[nn.Module]) -> bool:
    kinds = [type(layer) for layer in layers]
    hidden = (len(kinds) - 2) // 2
    return kinds == [nn.Flatten, *[nn.Linear, nn.ReLU] * hidden, nn.Linear]
