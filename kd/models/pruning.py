"""Prune networks: set the smallest weights to zero, or remove whole neurons and channels."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.models.layers import Block
from kd.models.surgery import check_share, mixes_inputs, set_tensor, watch

_ACTIVATIONS = (nn.ReLU, nn.GELU)

# -- weights -------------------------------------------------------------------------------


def prune_weights(model: nn.Module, share: float) -> nn.Module:
    """Return a copy of ``model`` with the ``share`` of its weights that are nearest to 0 set to 0.

    Biases and normalization are kept. Of equal weights, those of earlier layers are pruned first. The
    network stays as large and as slow as it was, because a dense layer multiplies by zeros too.

    Raises:
        UserError: ``share`` is not at least 0 and less than 1.

    Source: Han et al. 2015 (arXiv 1506.02626), section 3, but with one threshold for all layers.
    """
    check_share(share)
    model = copy.deepcopy(model)
    weights = [layer.weight.data for layer in model.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    magnitudes = torch.cat([weight.abs().flatten() for weight in weights])
    kept = torch.ones_like(magnitudes, dtype=torch.bool)
    kept[magnitudes.argsort(stable=True)[: round(share * len(magnitudes))]] = False
    for weight, part in zip(weights, kept.split([weight.numel() for weight in weights])):
        weight.mul_(part.view(weight.shape))
    return model


class MaskedLinear(nn.Linear):
    """A linear layer whose zero weights stay zero in training.

    Weights that are 0 at construction get no gradient; an optimizer whose state starts at 0 then leaves them
    at exactly 0, even with weight decay. The mask is not in the state dict, so a file of the weights is that
    of a plain linear layer.
    """

    mask: Tensor

    def __init__(self, layer: nn.Linear):
        super().__init__(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        self.register_buffer("mask", layer.weight.detach() != 0, persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        return F.linear(inputs, self.weight * self.mask, self.bias)


class MaskedConv2d(nn.Conv2d):
    """A convolution whose zero weights stay zero in training; see MaskedLinear."""

    mask: Tensor

    def __init__(self, layer: nn.Conv2d):
        # PyTorch's stubs give layers tuples of any length; those of a Conv2d are pairs.
        size, stride, padding, dilation = cast(
            "tuple[tuple[int, int], ...]", (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        )
        super().__init__(
            layer.in_channels,
            layer.out_channels,
            size,
            stride,
            padding,
            dilation,
            layer.groups,
            layer.bias is not None,
            device="meta",
        )
        self.weight, self.bias = layer.weight, layer.bias
        self.register_buffer("mask", layer.weight.detach() != 0, persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        return self._conv_forward(inputs, self.weight * self.mask, self.bias)


def with_masks(model: nn.Module) -> nn.Module:
    """Return a copy of ``model`` for training, in which zero weights stay zero."""
    model = copy.deepcopy(model)
    for name, layer in list(model.named_modules()):
        if isinstance(layer, (nn.Linear, nn.Conv2d)) and not layer.weight.all():
            masked = MaskedLinear(layer) if isinstance(layer, nn.Linear) else MaskedConv2d(layer)
            model.set_submodule(name, masked)
    return model


# -- neurons -------------------------------------------------------------------------------


def prune_neurons(model: nn.Module, share: float, images: Tensor | None = None) -> nn.Module:
    """Return a copy of ``model`` without the ``share`` least important neurons of each hidden layer.

    In convolutions, channels are removed; in a Transformer, hidden units of the blocks' MLPs. The result is a
    smaller dense network with the same outputs as ``model`` with the removed neurons silenced. Each layer
    keeps at least one neuron.

    Args:
        images: (N, C, H, W) normalized. With images, a neuron's importance is its mean absolute activation;
            without, the absolute sum of its incoming weights, with normalization folded in.

    Raises:
        UserError: ``share`` is not at least 0 and less than 1.

    Source: Li et al. 2017 (arXiv 1608.08710), section 3.1; with images Molchanov et al.
    2017 (arXiv 1611.06440), section 2.2, mean activation.
    """
    check_share(share)
    model = copy.deepcopy(model)
    activity = _activity(model, images) if images is not None else {}
    for layers in _chains(model):
        for place, layer in enumerate(layers):
            later = next((i for i in range(place + 1, len(layers)) if mixes_inputs(layers[i])), None)
            if not mixes_inputs(layer) or later is None:
                continue
            following = layers[later]
            assert mixes_inputs(following)
            between, count = layers[place + 1 : later], len(layer.weight)
            if activity:
                activation = next((module for module in between if isinstance(module, _ACTIVATIONS)), None)
                assert activation is not None, "hidden layers have an activation"
                importance = activity[activation]
            else:
                importance = _weight_sums(layer, between)
            ranking = importance.argsort(descending=True, stable=True)
            keep = ranking[: max(1, count - round(share * count))].sort().values
            _keep_outputs(layer, keep)
            for module in between:
                if isinstance(module, (nn.Conv2d, nn.BatchNorm2d)):
                    _keep_outputs(module, keep)
            _keep_inputs(following, keep, count)
    return model


def _chains(model: nn.Module) -> list[list[nn.Module]]:
    """Return sequences of layers whose hidden neurons feed only the next layer of the sequence."""
    blocks = [module for module in model.modules() if isinstance(module, Block)]
    return [list(block.mlp) for block in blocks] if blocks else [list(cast(nn.Sequential, model))]


def _weight_sums(layer: nn.Linear | nn.Conv2d, after: Sequence[nn.Module]) -> Tensor:
    """Return the absolute sum of the weights into each output, (D,).

    Batch normalization is folded in, because the size of a filter before normalization has no effect.
    """
    sums = layer.weight.detach().abs().flatten(1).sum(1)
    if after and isinstance(after[0], nn.BatchNorm2d):
        normalization = after[0]
        assert normalization.running_var is not None
        deviation = (normalization.running_var + normalization.eps).sqrt()
        sums = sums * normalization.weight.detach().abs() / deviation
    return sums


@torch.no_grad()
def _activity(model: nn.Module, images: Tensor) -> dict[nn.Module, Tensor]:
    """Return the mean absolute output, (D,) over neurons or channels, of each activation layer."""
    means: dict[nn.Module, Tensor] = {}

    def record_mean(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        sizes = output.abs()
        if sizes.dim() == 4:  # the channels of feature maps come second
            sizes = sizes.movedim(1, -1)
        means[layer] = sizes.flatten(0, -2).mean(0)

    watch(model, _ACTIVATIONS, record_mean, images)
    return means


def _keep_outputs(layer: nn.Linear | nn.Conv2d | nn.BatchNorm2d, keep: Tensor) -> None:
    """Remove all outputs of ``layer`` but ``keep``.

    A depthwise convolution or a normalization loses the corresponding inputs too.
    """
    for name, value in [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]:
        if value.dim():
            set_tensor(layer, name, value.detach()[keep])
    if isinstance(layer, nn.Linear):
        layer.out_features = len(keep)
    elif isinstance(layer, nn.BatchNorm2d):
        layer.num_features = len(keep)
    else:
        layer.out_channels = len(keep)
        if layer.groups > 1:
            layer.in_channels = layer.groups = len(keep)


def _keep_inputs(layer: nn.Linear | nn.Conv2d, keep: Tensor, count: int) -> None:
    """Remove all inputs of ``layer`` but those from the neurons ``keep`` of ``count``.

    After flattening, each channel has several inputs.
    """
    weight = layer.weight.detach()
    if isinstance(layer, nn.Linear):
        kept = weight.view(len(weight), count, -1)[:, keep].flatten(1)
        layer.in_features = kept.shape[1]
    else:
        kept = weight[:, keep]
        layer.in_channels = kept.shape[1]
    set_tensor(layer, "weight", kept)
