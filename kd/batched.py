"""Several networks computed at once, so that a small one does not wait for overhead.

At 128 images a batch, most of a small MLP's time goes into starting operations, not
into arithmetic. Student and control share their shape and their batches, so their
layers are stacked, each operation is started once for both, and none is noted for autograd.
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
        self._said: list[Outputs] = []  # with their graphs

    def outputs(self, images: Tensor, key: Key, features: Sequence[bool] = ()) -> list[Outputs]:
        """What each model says, detached. Dropout's masks depend on ``key`` alone and are the same for all.

        Args:
            features: for each model, whether its features are wanted; none are where it is empty.
        """
        self._said = []
        for model, wanted in zip(self._models, features or [False] * len(self._models)):
            if self._has_dropout:
                torch.manual_seed(seed(*key))  # dropout draws from the global generator
            self._said.append(outputs(model, images) if wanted else Outputs(model(images)))
        return [Outputs(said.logits.detach(), tuple(feature.detach() for feature in said.features)) for said in self._said]

    def gradients(self, by_said: Sequence[Outputs]) -> list[Tensor]:
        """By each of ``parameters``, of a loss whose gradients by the last outputs are given, None by features that do not matter."""
        ends, starts = [], []
        for said, by in zip(self._said, by_said, strict=True):
            for end, start in zip((said.logits, *said.features), (by.logits, *by.features)):
                if start is not None:
                    ends.append(end)
                    starts.append(start)
        self._said = []
        return list(torch.autograd.grad(ends, self.parameters, starts))


class Stack:
    """L multilayer perceptrons of one shape, whose weights and whose every step that is no matrix product are one for all.

    The models' own weights become views of one flat tensor, the only one in ``parameters``: training it trains the
    models, what is loaded into a model is in it, and the optimizer has one tensor to work on.

    Forward and backward are written out, without autograd, and all that passes is (L, features, N), so that no gradient has to
    be transposed. Each model comes to what it comes to by itself, to the bit.
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

    def outputs(self, images: Tensor, key: Key, features: Sequence[bool] = ()) -> list[Outputs]:
        """As Separate's; with the features of all where any model's are wanted, since they are there anyway."""
        said = self.logits(images).transpose(1, 2).contiguous().unbind()
        if not any(features):
            return [Outputs(logits) for logits in said]
        return [Outputs(logits, tuple(hidden[i].t() for hidden in self._seen[1:])) for i, logits in enumerate(said)]

    def gradients(self, by_said: Sequence[Outputs]) -> list[Tensor]:
        """As Separate's, by the flat tensor. The next call writes over it."""
        by_hidden: list[Tensor | None] = []
        for layer, hidden in enumerate(self._seen[1:]):
            its = [by.features[layer] if by.features else None for by in by_said]
            by_hidden.append(
                None if all(one is None for one in its)
                else torch.stack([torch.zeros_like(hidden[i]) if one is None else one.t() for i, one in enumerate(its)])
            )
        return self.backward(torch.stack([by.logits for by in by_said]).transpose(1, 2), by_hidden)

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """(L, 10, N) for ``images`` (N, ...)."""
        entered = images.flatten(1)
        hidden = self._first(entered, *self._weights[:2])
        self._seen = [entered]
        for weight, bias in zip(self._weights[2::2], self._weights[3::2]):
            self._seen.append(hidden.relu_())
            hidden = self._products(weight, hidden, plus=bias)
        return hidden

    @torch.no_grad()
    def backward(self, by_logits: Tensor, by_hidden: Sequence[Tensor | None] = ()) -> list[Tensor]:
        """By the flat tensor, of a loss whose gradients by the last logits (L, 10, N) and hidden layers (L, D, N) are given."""
        back = by_logits
        for i in range(len(self._seen) - 1, 0, -1):
            entered, weight = self._seen[i], self._weights[2 * i]
            self._products(back, entered.transpose(1, 2), out=self._gradients[2 * i])
            torch.sum(back, 2, keepdim=True, out=self._gradients[2 * i + 1])
            back = self._products(weight.transpose(1, 2), back)
            if by_hidden and by_hidden[i - 1] is not None:
                back += by_hidden[i - 1]
            back = torch.ops.aten.threshold_backward(back, entered, 0)
        self._first_gradient(back, self._seen[0], self._gradients[0])
        torch.sum(back, 2, keepdim=True, out=self._gradients[1])
        return [self._flat_gradient]

    def _first(self, images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """The first layers, of images (N, 784): (L, D, N)."""
        return self._products(weight, images.t().expand(len(weight), -1, -1), plus=bias)

    def _first_gradient(self, back: Tensor, images: Tensor, out: Tensor) -> None:
        """By the first layers' weights (L, D, 784), from that by what they say (L, D, N)."""
        self._products(back, images.expand(len(back), -1, -1), out=out)

    def _products(self, one: Tensor, other: Tensor, plus: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        """The matrix products of (L, A, B) with (L, B, C). One by one: with few columns, a product of several sums in another order."""
        out = one.new_empty(len(one), one.shape[1], other.shape[2]) if out is None else out
        for i, (a, b, c) in enumerate(zip(one.unbind(), other.unbind(), out.unbind())):
            if plus is None:
                torch.mm(a, b, out=c)
            else:
                torch.addmm(plus[i], a, b, out=c)
        return out


class Wide(Stack):
    """A Stack for many models: their first layers' weights, one under the other, are the matrix of one wide network.

    Measured with 32 mlp-30 and one thread, against batches of (N, features): softmax over neighbouring images 32 us instead of
    710, the second layer 43 instead of 210. What each comes to may differ in the last bits from what it comes to by itself.
    """

    def _first(self, images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.addmm(bias.flatten(0, 1), weight.flatten(0, 1), images.t()).unflatten(0, weight.shape[:2])

    def _first_gradient(self, back: Tensor, images: Tensor, out: Tensor) -> None:
        torch.mm(back.flatten(0, 1), images, out=out.flatten(0, 1))

    def _products(self, one: Tensor, other: Tensor, plus: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        return torch.bmm(one, other, out=out) if plus is None else torch.baddbmm(plus, one, other)


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
