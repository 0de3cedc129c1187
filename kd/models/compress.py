"""TECHNIQUES: the companions of distillation, which make a trained network smaller in one go.

Each takes a network as kd.models.registry builds them and gives a new one; the one that it was
given stays as it is. What they are followed by, a short training with the teacher, is
in kd.experiments.compression.

Removing neurons and factorizing change the layers' shapes in a way that depends on
the shares alone. So ``cnn-tiny_neurons-50_rank-30`` names an architecture like any
other: see kd.models.architecture.
"""

from __future__ import annotations

import copy
import io
import logging
import math
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn

from kd.errors import UserError
from kd.models.layers import Block

CALIBRATION = 1000  # validation images that activations are measured on, without their labels
INT8 = ("off", "dynamic", "static")
_ACTIVATIONS = (nn.ReLU, nn.GELU)
_SHAPES = re.compile(r"(?P<base>[^_]+)(?P<neurons>(?:_neurons-[1-9]\d?)*)(?P<rank>_rank-[1-9]\d?)?")


@dataclass(frozen=True)
class Technique:
    """What is shown of a technique, and how it is done."""

    name: str  # of its setting, too
    title: str
    purpose: str  # one line
    paper: str
    link: str
    apply: Callable[[nn.Module, float, Tensor], nn.Module]  # network, share, images -> network


# -- zeros ---------------------------------------------------------------------------------


def prune_weights(model: nn.Module, share: float) -> nn.Module:
    """``model`` with the ``share`` of all weights of its layers that are nearest to 0 set to 0; biases and normalization stay.

    Of equal weights those of the earlier layers fall first. The network stays as large
    and as slow as it was: a dense layer multiplies by zeros too.

    Source: Han et al. 2015 (arXiv 1506.02626), section 3, with one threshold for all layers.
    """
    model = copy.deepcopy(_checked(model, share))
    weights = [layer.weight.data for layer in model.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    sizes = torch.cat([weight.abs().flatten() for weight in weights])
    kept = torch.ones_like(sizes, dtype=torch.bool)
    kept[sizes.argsort(stable=True)[: round(share * len(sizes))]] = False
    for weight, part in zip(weights, kept.split([weight.numel() for weight in weights])):
        weight.mul_(part.view(weight.shape))
    return model


class MaskedLinear(nn.Linear):
    """A linear layer whose weights that are 0 when it is made stay 0 in training.

    They get no gradient, and an optimizer whose state begins at 0 leaves a weight of 0
    without gradient exactly there, weight decay included. The mask is no part of the
    weights: a file of them is a linear layer's.
    """

    def __init__(self, layer: nn.Linear):
        super().__init__(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        self.register_buffer("mask", layer.weight.detach() != 0, persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        return F.linear(inputs, self.weight * self.mask, self.bias)


class MaskedConv2d(nn.Conv2d):
    """As MaskedLinear, for a convolution."""

    def __init__(self, layer: nn.Conv2d):
        super().__init__(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,
            layer.stride,
            layer.padding,
            layer.dilation,
            layer.groups,
            layer.bias is not None,
            device="meta",
        )
        self.weight, self.bias = layer.weight, layer.bias
        self.register_buffer("mask", layer.weight.detach() != 0, persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        return self._conv_forward(inputs, self.weight * self.mask, self.bias)


def held(model: nn.Module) -> nn.Module:
    """A copy of ``model`` for training, in which the weights that are 0 stay 0."""
    model = copy.deepcopy(model)
    for name, layer in list(model.named_modules()):
        if isinstance(layer, (nn.Linear, nn.Conv2d)) and not layer.weight.all():
            model.set_submodule(name, (MaskedLinear if isinstance(layer, nn.Linear) else MaskedConv2d)(layer))
    return model


# -- neurons -------------------------------------------------------------------------------


def prune_neurons(model: nn.Module, share: float, images: Tensor | None = None) -> nn.Module:
    """``model`` without the ``share`` of the neurons of each hidden layer that matter least; channels in convolutions.

    What remains is a smaller dense network, whose outputs are those of ``model`` with the
    removed neurons silenced. At least one neuron stays in each layer. In a Transformer
    the hidden layers are those of its blocks' MLPs.

    Args:
        images: (N, 1, 28, 28) normalized; without them a neuron matters as much as the
            absolute sum of its incoming weights (normalization folded in), with them as
            much as its mean absolute activation.

    Source: Li et al. 2017 (arXiv 1608.08710), section 3.1; with images Molchanov et al.
    2017 (arXiv 1611.06440), section 2.2, mean activation.
    """
    model = copy.deepcopy(_checked(model, share))
    strengths = _activations(model, images) if images is not None else {}
    for layers in _chains(model):
        for place, layer in enumerate(layers):
            later = next((i for i in range(place + 1, len(layers)) if _mixes(layers[i])), None)
            if not _mixes(layer) or later is None:
                continue
            between, count = layers[place + 1 : later], len(layer.weight)
            activation = next((module for module in between if isinstance(module, _ACTIVATIONS)), None)
            strength = strengths[activation] if strengths else _weight(layer, between)
            keep = (
                strength.argsort(descending=True, stable=True)[: max(1, count - round(share * count))]
                .sort()
                .values
            )
            _keep_outputs(layer, keep)
            for module in between:
                if isinstance(module, (nn.Conv2d, nn.BatchNorm2d)):
                    _keep_outputs(module, keep)
            _keep_inputs(layers[later], keep, count)
    return model


def _chains(model: nn.Module) -> list[list[nn.Module]]:
    """Layers that follow each other, with hidden neurons between them that nothing else sees."""
    blocks = [module for module in model.modules() if isinstance(module, Block)]
    return [list(block.mlp) for block in blocks] if blocks else [list(model)]


def _mixes(layer: nn.Module) -> bool:
    """Whether each output of ``layer`` sees all inputs; a depthwise convolution's sees one."""
    return isinstance(layer, nn.Linear) or isinstance(layer, nn.Conv2d) and layer.groups == 1


def _weight(layer: nn.Linear | nn.Conv2d, after: Sequence[nn.Module]) -> Tensor:
    """The absolute sum of the weights into each output, as they act: the size of a filter before normalization says nothing."""
    sums = layer.weight.detach().abs().flatten(1).sum(1)
    if after and isinstance(after[0], nn.BatchNorm2d):
        sums = sums * after[0].weight.detach().abs() / (after[0].running_var + after[0].eps).sqrt()
    return sums


@torch.no_grad()
def _activations(model: nn.Module, images: Tensor) -> dict[nn.Module, Tensor]:
    """The mean absolute output of each neuron or channel of each activation layer, over ``images``."""
    found: dict[nn.Module, Tensor] = {}

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        sizes = output.abs()
        found[layer] = (
            (sizes.movedim(1, -1) if sizes.dim() == 4 else sizes).flatten(0, -2).mean(0)
        )  # maps have their channels second

    _watching(model, _ACTIVATIONS, note, images)
    return found


def _watching(model: nn.Module, kinds: tuple[type, ...], note: Callable, images: Tensor) -> None:
    """Runs ``model`` on ``images`` in eval mode while ``note(layer, inputs, output)`` is told of each layer of these ``kinds``."""
    was_training = model.training
    handles = [layer.register_forward_hook(note) for layer in model.modules() if isinstance(layer, kinds)]
    try:
        model.eval()(images)
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()


def _keep_outputs(layer: nn.Module, keep: Tensor) -> None:
    """Leaves ``layer`` the outputs numbered ``keep``; a depthwise convolution or a normalization loses the inputs with them."""
    for name, value in [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]:
        if value.dim():
            _put(layer, name, value.detach()[keep])
    if isinstance(layer, nn.Linear):
        layer.out_features = len(keep)
    elif isinstance(layer, nn.BatchNorm2d):
        layer.num_features = len(keep)
    else:
        layer.out_channels = len(keep)
        if layer.groups > 1:
            layer.in_channels = layer.groups = len(keep)


def _keep_inputs(layer: nn.Linear | nn.Conv2d, keep: Tensor, count: int) -> None:
    """Leaves ``layer`` what comes from the neurons ``keep`` of ``count``: after flattening each has several places."""
    weight = layer.weight.detach()
    kept = (
        weight.view(len(weight), count, -1)[:, keep].flatten(1)
        if isinstance(layer, nn.Linear)
        else weight[:, keep]
    )
    _put(layer, "weight", kept)
    if isinstance(layer, nn.Linear):
        layer.in_features = kept.shape[1]
    else:
        layer.in_channels = kept.shape[1]


def _put(layer: nn.Module, name: str, value: Tensor) -> None:
    if name in dict(layer.named_parameters(recurse=False)):
        layer.register_parameter(name, nn.Parameter(value.contiguous()))
    else:
        layer.register_buffer(name, value.contiguous())


# -- low rank ------------------------------------------------------------------------------


class Factored(nn.Sequential):
    """Two layers in place of one, with fewer numbers between them."""


def low_rank(model: nn.Module, share: float) -> nn.Module:
    """``model`` with each layer but the last as a product of two that have the ``share`` fewer weights together.

    A layer whose weights do not get fewer with any rank stays as it is.

    Source: Xue et al. 2013 (Interspeech), section 3, for dense layers; Denton et al. 2014
    (arXiv 1404.0736) and Zhang et al. 2016 (arXiv 1505.06798), section 3.1, for convolutions.
    """
    model = copy.deepcopy(_checked(model, share))
    layers = [(name, layer) for name, layer in model.named_modules() if _mixes(layer)]
    for name, layer in layers[:-1] if share else []:
        outputs, inputs = layer.weight.flatten(1).shape
        rank = max(1, int((1 - share) * outputs * inputs / (outputs + inputs)))
        if rank * (outputs + inputs) < outputs * inputs:
            model.set_submodule(name, factored(layer, rank))
    return model


def factored(layer: nn.Linear | nn.Conv2d, rank: int) -> Factored:
    """The two layers whose product is nearest to ``layer`` of all those of this rank (Eckart & Young 1936).

    The squares of its weights' errors add up to those of the singular values left out.
    """
    left, values, right = torch.linalg.svd(layer.weight.detach().flatten(1), full_matrices=False)
    root, bias = values[:rank].sqrt(), layer.bias is not None
    if isinstance(layer, nn.Linear):
        first = nn.Linear(layer.in_features, rank, bias=False, device="meta")
        second = nn.Linear(rank, layer.out_features, bias=bias, device="meta")
    else:
        first = nn.Conv2d(
            layer.in_channels, rank, layer.kernel_size, layer.stride, layer.padding, bias=False, device="meta"
        )
        second = nn.Conv2d(rank, layer.out_channels, 1, bias=bias, device="meta")
    _put(first, "weight", (root.unsqueeze(1) * right[:rank]).view(first.weight.shape))
    _put(second, "weight", (left[:, :rank] * root).view(second.weight.shape))
    if bias:
        _put(second, "bias", layer.bias.detach())
    return Factored(first, second)


# -- int8 ----------------------------------------------------------------------------------


def quantize(model: nn.Module, how: str, images: Tensor) -> nn.Module:
    """``model`` on the CPU with the weights of its linear layers as int8, one scale for each output. It cannot be trained.

    Args:
        how: "dynamic": a layer's inputs get a scale for each image as they come; "static":
            one scale, by the largest that ``images`` bring.
        images: (N, 1, 28, 28) normalized; not looked at where ``how`` is dynamic.

    Source: Jacob et al. 2018 (arXiv 1712.05877), sections 2 and 3; done by torchao, whose
    eager int8 is for linear layers: convolutions stay as they are.
    """
    if how not in INT8[1:]:
        raise UserError(f"int8 must be {' or '.join(INT8[1:])}, not {str(how)[:20]!r}.")
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)  # a warning for torchao's authors
    from torchao.quantization import (  # slow
        Int8DynamicActivationInt8WeightConfig,
        Int8StaticActivationInt8WeightConfig,
        PerRow,
        PerTensor,
        quantize_,
    )

    model = copy.deepcopy(model).cpu().eval()
    if how == "dynamic":
        quantize_(model, Int8DynamicActivationInt8WeightConfig(set_inductor_config=False))
        return model
    scales: dict[nn.Module, Tensor] = {}

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        scales[layer] = (inputs[0].abs().max() / 127).clamp(min=1e-8).view([1] * inputs[0].dim())

    with torch.no_grad():
        _watching(model, (nn.Linear,), note, images.cpu())
    for layer, scale in scales.items():
        config = Int8StaticActivationInt8WeightConfig(
            act_quant_scale=scale, granularity=[PerTensor(), PerRow()], set_inductor_config=False
        )
        quantize_(model, config, filter_fn=lambda module, name: module is layer)
    return model


# -- all together --------------------------------------------------------------------------

#: In the order in which they are done: zeros last, since factorizing would fill them up again.
TECHNIQUES: dict[str, Technique] = {
    technique.name: technique
    for technique in [
        Technique(
            "neurons",
            "Neurons, by weight",
            "Removes whole neurons, or a convolution's channels, whose incoming weights are smallest. What remains is dense.",
            "Li et al. 2017",
            "https://arxiv.org/abs/1608.08710",
            lambda model, share, images: prune_neurons(model, share),
        ),
        Technique(
            "activation",
            "Neurons, by activation",
            "Removes whole neurons that say least about 1,000 validation images.",
            "Molchanov et al. 2017",
            "https://arxiv.org/abs/1611.06440",
            prune_neurons,
        ),
        Technique(
            "rank",
            "Low rank",
            "Splits each layer into two thin ones by its singular values, with so many weights fewer.",
            "Denton et al. 2014",
            "https://arxiv.org/abs/1404.0736",
            lambda model, share, images: low_rank(model, share),
        ),
        Technique(
            "weights",
            "Weights",
            "Sets the smallest weights to zero, wherever they are. The file only shrinks when it is zipped, and a dense layer gets no faster.",
            "Han et al. 2015",
            "https://arxiv.org/abs/1506.02626",
            lambda model, share, images: prune_weights(model, share),
        ),
    ]
}


def steps(model: nn.Module, percents: dict[str, int], images: Tensor) -> Iterator[tuple[str, nn.Module]]:
    """The network after each technique of which there is something to do, by the technique's name.

    Args:
        percents: of each of TECHNIQUES; 0 leaves it out.
        images: (N, 1, 28, 28) normalized, to measure activations on.
    """
    for name, technique in TECHNIQUES.items():
        if percents[name]:
            model = technique.apply(model, percents[name] / 100, images)
            yield name, model


def shaped(architecture: str, percents: dict[str, int]) -> str:
    """The name of what ``architecture`` becomes. Zeros do not change it."""
    neurons = "".join(f"_neurons-{percents[name]}" for name in ("neurons", "activation") if percents[name])
    return architecture + neurons + (f"_rank-{percents['rank']}" if percents["rank"] else "")


def base(architecture: str) -> tuple[str, Callable[[nn.Module], nn.Module]] | None:
    """From a name that shaped() gives: the architecture that it began with, and what makes the one into the other; None where it is no such name."""
    found = _SHAPES.fullmatch(architecture)
    if not found or found["base"] == architecture:
        return None
    shares = [int(part) / 100 for part in re.findall(r"_neurons-(\d+)", found["neurons"])]

    def change(model: nn.Module) -> nn.Module:
        for share in shares:
            model = prune_neurons(model, share)
        return low_rank(model, int(found["rank"].partition("-")[2]) / 100) if found["rank"] else model

    return found["base"], change


def _checked(model: nn.Module, share: float) -> nn.Module:
    if not isinstance(share, (int, float)) or not math.isfinite(share) or not 0 <= share < 1:
        raise UserError(f"The share to take away must be at least 0 and less than 1, not {str(share)[:20]}.")
    return model


# -- what it costs -------------------------------------------------------------------------


@dataclass(frozen=True)
class Cost:
    """``parameters``: weights that must be stored; ``nonzero``: those that are not 0. ``file_bytes``: of the network as a
    safetensors file, byte by byte; ``zipped_bytes``: of that file when it is zipped."""

    parameters: int
    nonzero: int
    file_bytes: int
    zipped_bytes: int


def file(model: nn.Module) -> bytes:
    """The weights as a safetensors file. An int8 weight is its numbers and its scales."""
    tensors: dict[str, Tensor] = {}
    for key, value in model.state_dict().items():
        tensors |= (
            {f"{key}.{part}": getattr(value, part) for part in value.__tensor_flatten__()[0]}
            if _int8(value)
            else {key: value}
        )
    return save({key: value.detach().cpu().contiguous() for key, value in tensors.items()})


def _int8(weight: Tensor) -> bool:
    """Whether it is one of torchao's, which stands for several tensors."""
    return hasattr(weight, "__tensor_flatten__")


def cost(model: nn.Module) -> Cost:
    content, zipped = file(model), io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.safetensors", content)
    weights = [weight.dequantize() if _int8(weight) else weight for weight in model.parameters()]
    return Cost(
        parameters=sum(weight.numel() for weight in weights),
        nonzero=sum(int((weight != 0).sum()) for weight in weights),
        file_bytes=len(content),
        zipped_bytes=len(zipped.getvalue()),
    )
