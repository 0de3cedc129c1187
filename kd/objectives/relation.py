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

from kd.models.inference import Outputs
from kd.objectives.base import Settings, Terms, hinton

SIMILARITY, DISTANCE, ANGLE, NEIGHBOURS = 1000.0, 25.0, 50.0, 300.0  # what feature_weight 1 stands for
CORNERS = 48  # images of a batch, at most, between which angles are compared: N images have N^3 angles


def similarity(student: Outputs, teacher: Outputs | None, labels: Tensor, settings: Settings) -> Terms:
    """||S - T||^2 / N^2 of the matrices (N, N) of the images' inner products, each row normalized.

    Source: Tung & Mori 2019 (arXiv 1907.09682), section 3, the loss L_SP.
    """
    (said,), (taught,) = student.features, teacher.features
    difference = F.normalize(said @ said.t()) - F.normalize(taught @ taught.t())
    return hinton(student, teacher, labels, settings) | {
        "similarity": settings["feature_weight"] * SIMILARITY * difference.square().mean()
    }


def rkd(student: Outputs, teacher: Outputs | None, labels: Tensor, settings: Settings) -> Terms:
    """Huber's loss between the two networks' distances of pairs of images, and between their angles at triplets.

    Distances are taken by their mean over the batch. Means over all pairs, and over all
    ordered triplets of the batch's first CORNERS images, a random sample of it; the
    paper, which sums over both, weights angles twice as much.
    Source: Park et al. 2019 (arXiv 1904.05068), sections 3.2.1 and 3.2.2.
    """
    said, taught = (_distances(who.features[0]) for who in (student, teacher))
    count = len(said)
    relative = (
        distances * (count * (count - 1)) / distances.sum().clamp_min(1e-12) for distances in (said, taught)
    )
    distance = F.smooth_l1_loss(*relative, reduction="sum") / max(1, count * (count - 1))
    count = min(count, CORNERS)
    cosines = (
        _cosines(who.features[0][:count], distances[:count, :count])
        for who, distances in ((student, said), (teacher, taught))
    )
    triplets = max(1, count * (count - 1) * (count - 2))  # all others have equal angles
    angle = F.smooth_l1_loss(*cosines, reduction="sum") / triplets
    weight = settings["feature_weight"]
    return hinton(student, teacher, labels, settings) | {
        "distance": weight * DISTANCE * distance,
        "angle": weight * ANGLE * angle,
    }


def _distances(points: Tensor) -> Tensor:
    """(N, D) -> (N, N) distances of all pairs, 0 for equal points. From inner products: ten times as fast as from differences."""
    points = points - points.mean(0)
    inner = points @ points.t()
    squares = inner.diagonal().unsqueeze(0) + inner.diagonal().unsqueeze(1) - 2 * inner
    tiny = 1e-6 * squares.detach().mean() + 1e-30  # what rounding may leave of 0
    return squares.clamp_min(tiny).sqrt() * (squares > tiny)


def _cosines(points: Tensor, distances: Tensor) -> Tensor:
    """(N, D) points with their distances -> (N, N, N): the cosine of the angle at j between i and k, as [j, i, k]; 0 at equal points."""
    points = points - points.mean(0)
    inner = points @ points.t()
    # (i - j) . (k - j)
    dots = inner.unsqueeze(0) - inner.unsqueeze(1) - inner.unsqueeze(2) + inner.diagonal()[:, None, None]
    inverse = (distances > 0) / distances.clamp_min(1e-15)
    return dots * inverse.unsqueeze(1) * inverse.unsqueeze(2)


def pkt(student: Outputs, teacher: Outputs | None, labels: Tensor, settings: Settings) -> Terms:
    """KL of each image's neighbourhoods: the shares of all others in its similarity to them, mean over the batch.

    The similarity of two images is (cosine + 1) / 2. The authors sum over the images.
    Source: Passalis & Tefas 2018 (PKT, arXiv 1803.10837), section 3: the cosine kernel and the KL divergence.
    """
    said, taught = (_neighbours(who.features[0]) for who in (student, teacher))
    divergence = (taught * (taught.clamp_min(1e-12).log() - said.clamp_min(1e-12).log())).sum(1).mean()
    return hinton(student, teacher, labels, settings) | {
        "neighbours": settings["feature_weight"] * NEIGHBOURS * divergence
    }


def _neighbours(points: Tensor) -> Tensor:
    """(N, D) -> (N, N): each image's similarity to the others, as shares of 1; 0 to itself."""
    unit = F.normalize(points)
    similarities = ((unit @ unit.t() + 1) / 2) * (
        1 - torch.eye(len(points), dtype=points.dtype, device=points.device)
    )
    return similarities / similarities.sum(1, keepdim=True).clamp_min(1e-12)
