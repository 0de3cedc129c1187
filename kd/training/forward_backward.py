"""Forward and backward passes of networks in training.

At a batch size of 128, a small network spends most of its time on launching operations, not on
arithmetic. Multilayer perceptrons therefore bypass autograd and compute analytic gradients, and
several perceptrons of the same shape are batched into single operations. Other networks use
autograd.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from kd.models.inference import Outputs, outputs
from kd.randomness import seed

Key = tuple[int | str, ...]


#: The number formats that a forward pass can multiply in; weights and sums are float32 always.
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def choose_passes(model: nn.Module, precision: str = "float32") -> Perceptron | Autograd:
    """Return the fastest way to train ``model``: analytic for a plain perceptron, else autograd.

    Args:
        precision: a name in PRECISIONS; plain perceptrons are computed in float32 always.
    """
    return Perceptron(model) if same_perceptrons([model]) else Autograd(model, precision)


def has_dropout(model: nn.Module) -> bool:
    """Return whether any layer of ``model`` is dropout."""
    return any(isinstance(module, nn.Dropout) for module in model.modules())


class Autograd:
    """Forward and backward passes of any network, using autograd.

    Attributes:
        parameters: the model's own parameters.
    """

    def __init__(self, model: nn.Module, precision: str = "float32"):
        self._model, self._has_dropout = model, has_dropout(model)
        self._precision = PRECISIONS[precision]
        self.parameters = list(model.parameters())
        self._outputs = Outputs(torch.empty(0))  # of the last batch, with their graph

    def outputs(self, images: Tensor, key: Key, features: bool = False) -> Outputs:
        """Return the network's outputs, detached.

        Args:
            images: (N, C, H, W).
            key: seeds the dropout masks, which depend on nothing else.
            features: whether to return hidden layers too.
        """
        if self._has_dropout:
            torch.manual_seed(seed(*key))  # dropout draws from the global generator
        # Outputs come in the images' precision, so that losses are computed in it.
        with torch.autocast(images.device.type, self._precision, enabled=self._precision != torch.float32):
            given = outputs(self._model, images) if features else Outputs(self._model(images))
        self._outputs = Outputs(
            given.logits.to(images.dtype), tuple(feature.to(images.dtype) for feature in given.features)
        )
        return Outputs(
            self._outputs.logits.detach(), tuple(feature.detach() for feature in self._outputs.features)
        )

    def gradients(self, output_gradients: Outputs) -> list[Tensor]:
        """Return the gradient of the loss with respect to each of ``parameters``.

        Args:
            output_gradients: the loss's gradients with respect to the last outputs, in the same
                shapes; None for a feature that the loss does not depend on.
        """
        ends, gradients = [self._outputs.logits], [output_gradients.logits]
        for feature, gradient in zip(self._outputs.features, output_gradients.features):
            if gradient is not None:
                ends.append(feature)
                gradients.append(gradient)
        self._outputs = Outputs(torch.empty(0))
        return list(torch.autograd.grad(ends, self.parameters, gradients))


class _AnalyticPerceptrons:
    """One or several multilayer perceptrons of the same shape, with analytic gradients.

    The models' weights become views of one flat tensor, the only entry of ``parameters``, so that the
    optimizer handles a single tensor. Updating that tensor updates the models, and loading weights
    into a model updates the tensor. Activations are (..., features, N), so that no gradient has to be
    transposed.
    """

    def __init__(self, models: list[nn.Module]):
        layers = list(zip(*(_linear_layers(model) for model in models)))
        stacked = []
        for group in layers:
            stacked.append(torch.stack([layer.weight.detach() for layer in group]))  # (L, out, in)
            stacked.append(torch.stack([layer.bias.detach() for layer in group]).unsqueeze(2))
        flat = torch.cat([tensor.flatten() for tensor in stacked])
        self._weights = _views(flat, stacked)
        for group, weights, biases in zip(layers, self._weights[::2], self._weights[1::2]):
            for layer, weight, bias in zip(group, weights, biases):
                layer.weight.data, layer.bias.data = weight, bias.squeeze(1)
        self.parameters = [flat]
        self._flat_gradient = torch.empty_like(flat)
        self._gradients = _views(self._flat_gradient, stacked)
        self._layer_inputs: list[Tensor] = []  # of the last batch

    def _first_layer(self, images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        raise NotImplementedError

    def _first_gradient(self, gradient: Tensor, images: Tensor, out: Tensor) -> None:
        raise NotImplementedError

    def _layer(self, bias: Tensor, weight: Tensor, inputs: Tensor) -> Tensor:
        raise NotImplementedError

    def _product(self, first: Tensor, second: Tensor, out: Tensor | None = None) -> Tensor:
        raise NotImplementedError

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Return logits (..., C, N) for ``images`` (N, ...)."""
        inputs = images.flatten(1)
        hidden = self._first_layer(inputs, *self._weights[:2])
        self._layer_inputs = [inputs]
        for weight, bias in zip(self._weights[2::2], self._weights[3::2]):
            self._layer_inputs.append(hidden.relu_())
            hidden = self._layer(bias, weight, hidden)
        return hidden

    @torch.no_grad()
    def backward(
        self, logits_gradient: Tensor, hidden_gradients: Sequence[Tensor | None] = ()
    ) -> list[Tensor]:
        """Return the gradient of the loss with respect to the flat tensor. The next call overwrites it.

        Args:
            logits_gradient: the loss's gradient with respect to the last logits, (..., C, N).
            hidden_gradients: its gradient with respect to each hidden layer, (..., D, N) or None.
        """
        gradient = logits_gradient
        for i in range(len(self._layer_inputs) - 1, 0, -1):
            inputs, weight = self._layer_inputs[i], self._weights[2 * i]
            self._product(gradient, inputs.mT, out=self._gradients[2 * i])
            torch.sum(gradient, -1, keepdim=True, out=self._gradients[2 * i + 1])
            gradient = self._product(weight.mT, gradient)
            hidden = hidden_gradients[i - 1] if hidden_gradients else None
            if hidden is not None:
                gradient += hidden
            gradient = torch.ops.aten.threshold_backward(gradient, inputs, 0)
        self._first_gradient(gradient, self._layer_inputs[0], self._gradients[0])
        torch.sum(gradient, -1, keepdim=True, out=self._gradients[1])
        return [self._flat_gradient]


class Perceptron(_AnalyticPerceptrons):
    """Forward and backward passes of one multilayer perceptron."""

    def __init__(self, model: nn.Module):
        super().__init__([model])
        self._weights = [stacked[0] for stacked in self._weights]
        self._gradients = [stacked[0] for stacked in self._gradients]

    def outputs(self, images: Tensor, key: Key, features: bool = False) -> Outputs:
        """Return the network's outputs, as Autograd does."""
        logits = self.logits(images).t().contiguous()
        return Outputs(logits, tuple(hidden.t() for hidden in self._layer_inputs[1:]) if features else ())

    def gradients(self, output_gradients: Outputs) -> list[Tensor]:
        """Return the gradient with respect to the flat tensor. The next call overwrites it."""
        hidden_gradients = [
            None if gradient is None else gradient.t() for gradient in output_gradients.features
        ]
        return self.backward(output_gradients.logits.t(), hidden_gradients)

    def _first_layer(self, images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.addmm(bias, weight, images.t())  # (D, N)

    def _first_gradient(self, gradient: Tensor, images: Tensor, out: Tensor) -> None:
        torch.mm(gradient, images, out=out)

    def _layer(self, bias: Tensor, weight: Tensor, inputs: Tensor) -> Tensor:
        return torch.addmm(bias, weight, inputs)

    def _product(self, first: Tensor, second: Tensor, out: Tensor | None = None) -> Tensor:
        return torch.mm(first, second, out=out)


class WidePerceptrons(_AnalyticPerceptrons):
    """Forward and backward passes of L multilayer perceptrons, whose first layers are computed as one.

    The weights of the L first layers form one matrix. With 32 mlp-30 networks and one thread, storing
    activations as (features, N) instead of (N, features) reduces the time of the softmax from 710 to
    32 microseconds and of the second layer from 210 to 43. Results may differ in the last bits from
    those of networks trained separately.
    """

    def _first_layer(self, images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        hidden = torch.addmm(bias.flatten(0, 1), weight.flatten(0, 1), images.t())
        return hidden.unflatten(0, weight.shape[:2])

    def _first_gradient(self, gradient: Tensor, images: Tensor, out: Tensor) -> None:
        torch.mm(gradient.flatten(0, 1), images, out=out.flatten(0, 1))

    def _layer(self, bias: Tensor, weight: Tensor, inputs: Tensor) -> Tensor:
        return torch.baddbmm(bias, weight, inputs)

    def _product(self, first: Tensor, second: Tensor, out: Tensor | None = None) -> Tensor:
        return torch.bmm(first, second, out=out)


def same_perceptrons(models: list[nn.Module]) -> bool:
    """Return whether all are plain perceptrons (Flatten, Linear, ReLU, Linear, ...) of the same sizes."""
    shapes = {repr(model) for model in models}
    return len(shapes) == 1 and all(_is_plain_perceptron(model) for model in models)


def _is_plain_perceptron(model: nn.Module) -> bool:
    if type(model) is not nn.Sequential:
        return False
    kinds = [type(layer) for layer in model]
    hidden = (len(kinds) - 2) // 2
    return kinds == [nn.Flatten, *[nn.Linear, nn.ReLU] * hidden, nn.Linear]


def _linear_layers(model: nn.Module) -> Iterator[nn.Linear]:
    return (layer for layer in model.children() if isinstance(layer, nn.Linear))


def _views(flat: Tensor, shapes: list[Tensor]) -> list[Tensor]:
    """Split a flat tensor into consecutive parts with the shapes of other tensors."""
    parts = flat.split([tensor.numel() for tensor in shapes])
    return [part.view(tensor.shape) for part, tensor in zip(parts, shapes)]
