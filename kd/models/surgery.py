"""Edit networks layer by layer: helpers that the compression techniques share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeGuard

from torch import Tensor, nn

from kd.errors import UserError


def check_share(share: float) -> None:
    """Check that ``share`` can be removed from a network.

    Raises:
        UserError: it is not a number of at least 0 and less than 1.
    """
    if not isinstance(share, (int, float)) or not math.isfinite(share) or not 0 <= share < 1:
        raise UserError(f"The share to remove must be at least 0 and less than 1 (got {str(share)[:20]}).")


def mixes_inputs(layer: nn.Module) -> TypeGuard[nn.Linear | nn.Conv2d]:
    """Return whether each output of ``layer`` depends on all inputs.

    True for dense layers and ordinary convolutions. In a depthwise convolution each output depends on one
    channel.
    """
    return isinstance(layer, nn.Linear) or isinstance(layer, nn.Conv2d) and layer.groups == 1


def set_tensor(layer: nn.Module, name: str, value: Tensor) -> None:
    """Replace the parameter or buffer ``name`` of ``layer``, whatever shape it had."""
    if name in dict(layer.named_parameters(recurse=False)):
        layer.register_parameter(name, nn.Parameter(value.contiguous()))
    else:
        layer.register_buffer(name, value.contiguous())


def watch(model: nn.Module, kinds: tuple[type, ...], hook: Callable, images: Tensor) -> None:
    """Run ``model`` on ``images`` in eval mode and call a hook for some of its layers.

    Args:
        kinds: the classes of layers to watch.
        hook: called as ``hook(layer, inputs, output)`` after each of them.
        images: (N, C, H, W), normalized.
    """
    was_training = model.training
    handles = [layer.register_forward_hook(hook) for layer in model.modules() if isinstance(layer, kinds)]
    try:
        model.eval()(images)
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
