"""Methods that compare how the images of a batch lie to each other: Hinton's loss and feature_weight * terms.

The last hidden layers of both networks, (N, D) and (N, E), are compared through
what holds between images, so that their widths may differ and no projection is
needed. As in kd.objectives.feature, feature_weight 1 stands for a fixed number
beside each term. A batch of one image has no relations: the terms are 0.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kd.models import Outputs
from kd.objectives.base import Settings, Terms, hinton

SIMILARITY, DISTANCE, ANGLE, NEIGHBOURS = 1.0, 1.0, 1.0, 1.0  # what feature_weight 1 stands for
CORNERS = 48  # images of a batch, at most, between which angles are compared: N images have N^3 angles


def similarity(student: Outputs, teacher: Outputs | None, labels: Tensor, settings: Settings) -> Terms:
    """||S - T||^2 / N^2 of the matrices (N, N) of the images' inner products, each row normalized.

    Source: Tung & Mori 2019 (arXiv 1907.09682), section 3, the loss L_SP.
    """
    (said,), (taught,) = student.features, teacher.features
    difference = F.normalize(said @ said.t()) - F.normalize(taught @ taught.t())
    return hinton(student, teacher, labels, settings) | {"similarity": settings["feature_weight"] * SIMILARITY * difference.square().mean()}


def rkd(student: Outputs, teacher: Outputs | None, labels: Tensor, settings: Settings) -> Terms:
    """Huber's loss between the two networks' distances of pairs of images, and between their angles at triplets.

    Distances are taken by their mean over the batch. Means over all pairs, and over all
    ordered triplets of the batch's first CORNERS images, a random sample of it; the
    paper, which sums over both, weights angles twice as much.
    Source: Park et al. 2019 (arXiv 1904.05068), sections 3.2.1 and 3.2.2.
    """
    (said,), (taught,) = student.features, teacher.features
    distance = _mean(F.smooth_l1_loss(_distances(said), _distances(taught), reduction="none"))
    count = min(len(said), CORNERS)
    triplets = max(1, count * (count - 1) * (count - 2))  # all others have equal angles
    angle = F.smooth_l1_loss(_cosines(said[:count]), _cosines(taught[:count]), reduction="sum") / triplets
    weight = settings["feature_weight"]
    return hinton(student, teacher, labels, settings) | {"distance": weight * DISTANCE * distance, "angle": weight * ANGLE * angle}


def _mean(values: Tensor) -> Tensor:
    """Of all elements; 0 where there are none."""
    return values.sum() / max(1, values.numel())


def _distances(points: Tensor) -> Tensor:
    """(N, D) -> (N (N - 1) / 2,) distances of all pairs, by their mean."""
    distances = F.pdist(points)
    return distances / _mean(distances).clamp_min(1e-12)


def _cosines(points: Tensor) -> Tensor:
    """(N, D) -> (N, N, N): the cosine of the angle at image j between images i and k, as [j, i, k]."""
    directions = F.normalize(points.unsqueeze(0) - points.unsqueeze(1), dim=2)
    return directions @ directions.transpose(1, 2)


def pkt(student: Outputs, teacher: Outputs | None, labels: Tensor, settings: Settings) -> Terms:
    """KL of each image's neighbourhoods: the shares of all others in its similarity to them, mean over the batch.

    The similarity of two images is (cosine + 1) / 2. The authors sum over the images.
    Source: Passalis & Tefas 2018 (PKT, arXiv 1803.10837), section 3: the cosine kernel and the KL divergence.
    """
    said, taught = (_neighbours(who.features[0]) for who in (student, teacher))
    divergence = (taught * (taught.clamp_min(1e-12).log() - said.clamp_min(1e-12).log())).sum(1).mean()
    return hinton(student, teacher, labels, settings) | {"neighbours": settings["feature_weight"] * NEIGHBOURS * divergence}


def _neighbours(points: Tensor) -> Tensor:
    """(N, D) -> (N, N - 1): each image's similarity to the others, as shares of 1."""
    unit = F.normalize(points)
    others = ~torch.eye(len(points), dtype=torch.bool, device=points.device)
    similarities = ((unit @ unit.t() + 1) / 2)[others].view(len(points), -1)
    return similarities / similarities.sum(1, keepdim=True)
