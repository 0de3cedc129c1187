"""Recognize a network by the names and shapes of its weights."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator

from kd.errors import UserError
from kd.models import registry

Shapes = dict[str, tuple[int, ...]]

#: What other programs put before the names of all weights: torch.compile, DataParallel, and wrapping modules.
PREFIXES = ("_orig_mod.", "module.", "model.")
_SHARES = range(1, 100)  # percentages that compression can remove
_MAX_TRIES = 60  # candidates whose shapes are compared in full


def plain_names(names: list[str]) -> dict[str, str]:
    """Return each weight's name without PREFIXES: name in the file -> name in the network.

    ``_orig_mod.`` is removed wherever it stands, since torch.compile puts it before any compiled layer.
    """
    plain = {name: name.replace("_orig_mod.", "") for name in names}
    while plain and (common := [p for p in PREFIXES if all(name.startswith(p) for name in plain.values())]):
        plain = {name: value.removeprefix(common[0]) for name, value in plain.items()}
    return plain


def recognized(shapes: Shapes, claimed: str | None = None) -> str | None:
    """Return the architecture whose weights have these names and shapes, or None.

    Args:
        shapes: name -> shape of each weight.
        claimed: the architecture that the file names, which is taken if its weights are the same.
    """
    if claimed is not None and _fits(claimed, shapes):
        return claimed
    for name in registry.ARCHITECTURES:
        if shapes == _shapes_of(name):
            return name
    own = _own_mlp(shapes)
    if own is not None and shapes == _shapes_of(own):
        return own
    bases = [*registry.ARCHITECTURES, *([own] if own else [])]
    candidates = itertools.chain.from_iterable(_compressed_names(base, shapes) for base in bases)
    return next((name for name in itertools.islice(candidates, _MAX_TRIES) if _fits(name, shapes)), None)


def _fits(architecture: str, shapes: Shapes) -> bool:
    """Return whether ``architecture``, which a file may name, has weights of these shapes."""
    if len(architecture) > 100 or "+" in architecture:
        return False
    try:
        return _shapes_of(architecture) == shapes
    except UserError:
        return False


def _shapes_of(architecture: str) -> Shapes:
    state = registry.skeleton(architecture).state_dict()
    return {key: tuple(value.shape) for key, value in state.items()}


def _own_mlp(shapes: Shapes) -> str | None:
    """Return the name of an MLP with as many hidden units; its layers may be products of two."""
    layers: dict[int, int] = {}
    for key in sorted(shapes):
        if (match := re.fullmatch(r"(\d{1,2})(\.[01])?\.weight", key)) and len(shapes[key]) == 2:
            layers[int(match[1])] = shapes[key][0]  # for a product, that of the second factor
    widths = [layers[place] for place in sorted(layers)][:-1]
    if not 1 <= len(widths) <= registry.MAX_LAYERS:
        return None
    return registry.own_name(tuple(widths)) if all(1 <= w <= registry.MAX_WIDTH for w in widths) else None


def _compressed_names(base: str, shapes: Shapes) -> Iterator[str]:
    """Yield names of compressed forms of ``base`` that may have these shapes.

    How many neurons and which rank remain tells the shares that can have been removed. Any name that gives
    the same shapes will do.
    """
    original = _shapes_of(base)
    outputs: dict[str, int] = {}
    factors: list[tuple[int, int, int]] = []  # rank, outputs and inputs of each product
    for key, shape in shapes.items():
        match = re.fullmatch(r"(.+)\.([01])\.(weight|bias)", key)
        whole = f"{match[1]}.{match[3]}" if match else key
        if not match or key in original or whole not in original:
            outputs[key] = shape[0] if shape else 0
            continue
        second = shapes.get(f"{match[1]}.1.weight", ())
        if match[2] == "0" and len(second) > 1 and len(shape) > 1:
            factors.append((shape[0], second[0], math.prod(shape[1:])))
        if match[2] == "1":
            outputs[whole] = shape[0] if shape else 0
    if set(outputs) != set(original):
        return
    counts = {(original[key][0] if original[key] else 0, count) for key, count in outputs.items()}
    ranks = [f"_rank-{share}" for share in _SHARES if all(_rank(share, o, i) == r for r, o, i in factors)]
    for shares in _neuron_shares(counts):
        neurons = "".join(f"_neurons-{share}" for share in shares)
        yield from (f"{base}{neurons}{rank}" for rank in (ranks if factors else [""]))


def _neuron_shares(counts: set[tuple[int, int]]) -> Iterator[tuple[int, ...]]:
    """Yield the shares, in percent, after whose removal layers have these (original, remaining) counts."""
    for length in range(3):
        for shares in itertools.product(_SHARES, repeat=length):
            if all(left in (count, _left(count, shares)) for count, left in counts):
                yield shares


def _left(count: int, shares: tuple[int, ...]) -> int:
    """Return how many of ``count`` neurons remain; see kd.models.pruning.prune_neurons()."""
    for share in shares:
        count = max(1, count - round(share / 100 * count))
    return count


def _rank(share: int, outputs: int, inputs: int) -> int:
    """Return the rank of a layer that lost ``share`` percent of its weights; see kd.models.low_rank."""
    return max(1, int((1 - share / 100) * outputs * inputs / (outputs + inputs)))
