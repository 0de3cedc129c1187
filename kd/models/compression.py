"""Compress trained networks in one go, with the techniques in TECHNIQUES.

Each technique takes a network as kd.models.registry builds them and returns a new one; the original stays
as it is. The fine-tuning with a teacher that follows is in kd.experiments.compress.

The shapes after removing neurons and factorizing depend on the shares alone. So
``cnn-tiny_neurons-50_rank-30`` names an architecture like any other: see kd.models.registry.architecture.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from kd.models.low_rank import low_rank
from kd.models.pruning import prune_neurons, prune_weights

CALIBRATION = 1000  # validation images that activations are measured on; their labels are not used
_COMPRESSED_NAME = re.compile(r"(?P<base>[^_]+)(?P<neurons>(?:_neurons-[1-9]\d?)*)(?P<rank>_rank-[1-9]\d?)?")


@dataclass(frozen=True)
class Technique:
    """A compression technique and its description.

    Attributes:
        name: also the name of its setting in CompressConfig.
        title: shown in the app.
        purpose: one or two sentences, shown in the app.
        paper: authors and year.
        link: address of the paper.
        apply: (network, share, normalized images) -> compressed copy.
    """

    name: str
    title: str
    purpose: str
    paper: str
    link: str
    apply: Callable[[nn.Module, float, Tensor], nn.Module]


#: In the order in which they are applied: zeros come last, since factorizing would fill them up again.
TECHNIQUES: dict[str, Technique] = {
    technique.name: technique
    for technique in [
        Technique(
            "neurons",
            "Neurons, by weight",
            "Removes the neurons (in a convolution, the channels) with the smallest incoming weights. "
            "What remains is dense.",
            "Li et al. 2017",
            "https://arxiv.org/abs/1608.08710",
            lambda model, share, images: prune_neurons(model, share),
        ),
        Technique(
            "activation",
            "Neurons, by activation",
            "Removes the neurons with the smallest mean activation on 1,000 validation images.",
            "Molchanov et al. 2017",
            "https://arxiv.org/abs/1611.06440",
            prune_neurons,
        ),
        Technique(
            "rank",
            "Low rank",
            "Splits each layer into two thin ones by its singular values; together they have fewer weights.",
            "Denton et al. 2014",
            "https://arxiv.org/abs/1404.0736",
            lambda model, share, images: low_rank(model, share),
        ),
        Technique(
            "weights",
            "Weights",
            "Sets the smallest weights to zero, in whichever layer they are. The file shrinks only when "
            "zipped, and a dense layer gets no faster.",
            "Han et al. 2015",
            "https://arxiv.org/abs/1506.02626",
            lambda model, share, images: prune_weights(model, share),
        ),
    ]
}


def steps(model: nn.Module, percents: dict[str, int], images: Tensor) -> Iterator[tuple[str, nn.Module]]:
    """Yield the name of each technique that is used, with the network after it.

    Args:
        percents: how much each of TECHNIQUES removes; 0 skips it.
        images: (N, C, H, W) normalized, to measure activations on.
    """
    for name, technique in TECHNIQUES.items():
        if percents[name]:
            model = technique.apply(model, percents[name] / 100, images)
            yield name, model


def compressed_name(architecture: str, percents: dict[str, int]) -> str:
    """Return the name of the compressed ``architecture``. Pruning single weights does not change it."""
    parts = [f"_neurons-{percents[name]}" for name in ("neurons", "activation") if percents[name]]
    if percents["rank"]:
        parts.append(f"_rank-{percents['rank']}")
    return architecture + "".join(parts)


def parse_name(architecture: str) -> tuple[str, Callable[[nn.Module], nn.Module]] | None:
    """Split a name that compressed_name() returned.

    Returns:
        The original architecture, and a function that turns its network into the compressed shape.
        None if it is not the name of a compressed network.
    """
    match = _COMPRESSED_NAME.fullmatch(architecture)
    if not match or match["base"] == architecture:
        return None
    shares = [int(part) / 100 for part in re.findall(r"_neurons-(\d+)", match["neurons"])]
    rank = int(match["rank"].partition("-")[2]) / 100 if match["rank"] else None

    def compress(model: nn.Module) -> nn.Module:
        for share in shares:
            model = prune_neurons(model, share)
        return model if rank is None else low_rank(model, rank)

    return match["base"], compress
