"""Methods that compare relations between the images of a batch: Hinton's loss plus feature_weight * terms.

They compare similarities or distances between images in the last hidden layers of both networks,
(N, D) and (N, E), so the widths may differ and no projection is needed. As in
kd.objectives.feature, each term has a fixed factor. A batch of one image has no relations: its
terms are 0.

All methods here raise ValueError without a teacher.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kd.models.inference import Outputs
from kd.objectives.base import Settings, Terms, require_teacher
from kd.objectives.response import hinton

#: Fixed factors, multiplied by feature_weight.
SIMILARITY, DISTANCE, ANGLE, NEIGHBOURS = 1000.0, 25.0, 50.0, 300.0
#: Angles are compared between at most this many images of a batch, since N images have N^3 angles.
MAX_ANGLE_IMAGES = 48


def similarity(student: Outputs, teacher: Outputs | None, labels: Tensor, settings: Settings) -> Terms:
    """Return hinton()'s terms and "similarity": ||S - T||^2 / N^2.

    S and T are the (N, N) matrices of the inner products between images in the student's and the
    teacher's last hidden layer, with each row normalized.
    Source: Tung & Mori 2019 (arXiv 1907.09682), section 3, the loss L_SP.
    """
    (ours,), (theirs,) = student.features, require_teacher(teacher).features
    difference = F.normalize(ours @ ours.t()) - F.normalize(theirs @ theirs.t())
    return hinton(student, teacher, labels, settings) | {
        "similarity": settings["feature_weight"] * SIMILARITY * difference.square().mean()
    }


def rkd(student: Outputs, teacher: Outputs | None, labels: Tensor, settings: Settings) -> Terms:
    """Return hinton()'s terms, "distance" for pairs of images, and "angle" for triplets.

    Both are Huber losses between the student's and the teacher's values. Distances are divided by
    their mean over the batch. The terms are averaged over all pairs, and over all ordered triplets of
    the first MAX_ANGLE_IMAGES images, which are a random sample because batches are shuffled. The
    paper sums over both, and weights angles twice as much.
    Source: Park et al. 2019 (arXiv 1904.05068), sections 3.2.1 and 3.2.2.
    """
    ours, theirs = student.features[0], require_teacher(teacher).features[0]
    our_distances, their_distances = _distances(ours), _distances(theirs)
    pairs = len(ours) * (len(ours) - 1)
    distance = F.smooth_l1_loss(
        our_distances * pairs / our_distances.sum().clamp_min(1e-12),
        their_distances * pairs / their_distances.sum().clamp_min(1e-12),
        reduction="sum",
    ) / max(1, pairs)
    count = min(len(ours), MAX_ANGLE_IMAGES)
    triplets = max(1, count * (count - 1) * (count - 2))  # triplets with a repeated image add 0 to the loss
    angle = (
        F.smooth_l1_loss(
            _cosines(ours[:count], our_distances[:count, :count]),
            _cosines(theirs[:count], their_distances[:count, :count]),
            reduction="sum",
        )
        / triplets
    )
    weight = settings["feature_weight"]
    return hinton(student, teacher, labels, settings) | {
        "distance": weight * DISTANCE * distance,
        "angle": weight * ANGLE * angle,
    }


def _distances(points: Tensor) -> Tensor:
    """Return the distances (N, N) between all pairs of points (N, D); 0 for equal points.

    Computed from inner products, which is ten times as fast as from differences.
    """
    points = points - points.mean(0)
    inner = points @ points.t()
    squares = inner.diagonal().unsqueeze(0) + inner.diagonal().unsqueeze(1) - 2 * inner
    tiny = 1e-6 * squares.detach().mean() + 1e-30  # anything smaller is a rounding error
    return squares.clamp_min(tiny).sqrt() * (squares > tiny)


def _cosines(points: Tensor, distances: Tensor) -> Tensor:
    """Return the cosines (N, N, N) of the angles between points (N, D).

    Entry [j, i, k] is the cosine of the angle at j between i and k, or 0 if two of the points are equal.
    """
    points = points - points.mean(0)
    inner = points @ points.t()
    # (i - j) . (k - j)
    dots = inner.unsqueeze(0) - inner.unsqueeze(1) - inner.unsqueeze(2) + inner.diagonal()[:, None, None]
    inverse = (distances > 0) / distances.clamp_min(1e-15)
    return dots * inverse.unsqueeze(1) * inverse.unsqueeze(2)


def pkt(student: Outputs, teacher: Outputs | None, labels: Tensor, settings: Settings) -> Terms:
    """Return hinton()'s terms and "neighbours": KL(teacher || student) of the images' neighbourhoods.

    An image's neighbourhood is a probability distribution over the other images of the batch,
    proportional to their similarity (cosine + 1) / 2. This differs from the authors' code in two
    ways: an image is not a neighbour of itself (the authors keep the diagonal), and the divergence,
    in nats, is averaged over the images (the authors sum it).
    Source: Passalis & Tefas 2018 (PKT, arXiv 1803.10837), section 3: the cosine kernel and the KL divergence.
    """
    ours, theirs = _neighbours(student.features[0]), _neighbours(require_teacher(teacher).features[0])
    log_ratio = theirs.clamp_min(1e-12).log() - ours.clamp_min(1e-12).log()
    divergence = (theirs * log_ratio).sum(1).mean()
    return hinton(student, teacher, labels, settings) | {
        "neighbours": settings["feature_weight"] * NEIGHBOURS * divergence
    }


def _neighbours(points: Tensor) -> Tensor:
    """Return the similarities (N, N) of points (N, D), each row divided by its sum; the diagonal is 0."""
    unit = F.normalize(points)
    others = 1 - torch.eye(len(points), dtype=points.dtype, device=points.device)
    similarities = ((unit @ unit.t() + 1) / 2) * others
    return similarities / similarities.sum(1, keepdim=True).clamp_min(1e-12)
