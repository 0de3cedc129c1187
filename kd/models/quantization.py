"""Quantize the linear layers of a network to int8."""

from __future__ import annotations

import copy
import logging

import torch
from torch import Tensor, nn

from kd.errors import UserError
from kd.models.surgery import watch

INT8 = ("off", "dynamic", "static")


def quantize(model: nn.Module, how: str, images: Tensor) -> nn.Module:
    """Return a copy of ``model`` on the CPU, with the weights of its linear layers as int8.

    Each output has its own scale. A layer with a single input stays as it is: torchao cannot quantize it. The
    result cannot be trained.

    Args:
        how: "dynamic" computes a scale for each image's inputs to a layer; "static" uses one scale, from
            the largest input that ``images`` cause.
        images: (N, C, H, W) normalized; ignored if ``how`` is "dynamic".

    Raises:
        UserError: ``how`` is neither "dynamic" nor "static".

    Source: Jacob et al. 2018 (arXiv 1712.05877), sections 2 and 3. torchao does the work; its eager int8
    covers linear layers only, so convolutions stay as they are.
    """
    if how not in INT8[1:]:
        raise UserError(f"int8 must be {' or '.join(INT8[1:])}, not {str(how)[:20]!r}.")
    # Silence a warning that is meant for torchao's authors.
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
    from torchao.quantization import (  # slow to import
        Int8DynamicActivationInt8WeightConfig,
        Int8StaticActivationInt8WeightConfig,
        PerRow,
        PerTensor,
        quantize_,
    )

    model = copy.deepcopy(model).cpu().eval()
    if how == "dynamic":
        quantize_(
            model,
            Int8DynamicActivationInt8WeightConfig(set_inductor_config=False),
            filter_fn=lambda module, name: _has_several_inputs(module),
        )
        return model
    scales: dict[nn.Module, Tensor] = {}

    def record_scale(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        scales[layer] = (inputs[0].abs().max() / 127).clamp(min=1e-8).view([1] * inputs[0].dim())

    with torch.no_grad():
        watch(model, (nn.Linear,), record_scale, images.cpu())
    for layer, scale in scales.items():
        if not _has_several_inputs(layer):
            continue
        config = Int8StaticActivationInt8WeightConfig(
            act_quant_scale=scale, granularity=[PerTensor(), PerRow()], set_inductor_config=False
        )
        quantize_(model, config, filter_fn=lambda module, name, layer=layer: module is layer)
    return model


def _has_several_inputs(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) and module.in_features > 1
