"""Replace layers by products of two smaller ones."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import nn

from kd.models.surgery import check_share, mixes_inputs, set_tensor


class Factored(nn.Sequential):
    """Two layers that replace one, with fewer values between them."""


def low_rank(model: nn.Module, share: float) -> nn.Module:
    """Return a copy of ``model`` in which every layer but the last is a product of two smaller ones.

    Each pair has at least the ``share`` fewer weights than its layer. A layer that no rank makes smaller
    stays as it is.

    Raises:
        UserError: ``share`` is not at least 0 and less than 1.

    Source: Xue et al. 2013 (Interspeech), section 3, for dense layers; Denton et al. 2014
    (arXiv 1404.0736) and Zhang et al. 2016 (arXiv 1505.06798), section 3.1, for convolutions.
    """
    check_share(share)
    model = copy.deepcopy(model)
    layers = [(name, layer) for name, layer in model.named_modules() if mixes_inputs(layer)]
    for name, layer in layers[:-1] if share else []:
        outputs, inputs = layer.weight.flatten(1).shape
        rank = max(1, int((1 - share) * outputs * inputs / (outputs + inputs)))
        if rank * (outputs + inputs) < outputs * inputs:
            model.set_submodule(name, factored(layer, rank))
    return model


def factored(layer: nn.Linear | nn.Conv2d, rank: int) -> Factored:
    """Return the two layers whose product is the best approximation of ``layer`` at this rank.

    The squared errors of the weights add up to the squares of the dropped singular values.
    Source: Eckart & Young 1936 (Psychometrika).
    """
    left, values, right = torch.linalg.svd(layer.weight.detach().flatten(1), full_matrices=False)
    root = values[:rank].sqrt()
    bias = layer.bias is not None
    first: nn.Linear | nn.Conv2d
    second: nn.Linear | nn.Conv2d
    if isinstance(layer, nn.Linear):
        first = nn.Linear(layer.in_features, rank, bias=False, device="meta")
        second = nn.Linear(rank, layer.out_features, bias=bias, device="meta")
    else:
        # PyTorch's stubs give layers tuples of any length; those of a Conv2d are pairs.
        size, stride, padding = cast(
            "tuple[tuple[int, int], ...]", (layer.kernel_size, layer.stride, layer.padding)
        )
        first = nn.Conv2d(layer.in_channels, rank, size, stride, padding, bias=False, device="meta")
        second = nn.Conv2d(rank, layer.out_channels, 1, bias=bias, device="meta")
    set_tensor(first, "weight", (root.unsqueeze(1) * right[:rank]).view(first.weight.shape))
    set_tensor(second, "weight", (left[:, :rank] * root).view(second.weight.shape))
    if layer.bias is not None:
        set_tensor(second, "bias", layer.bias.detach())
    return Factored(first, second)
