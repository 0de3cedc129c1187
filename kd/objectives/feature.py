"""Methods that compare hidden layers for each image: Hinton's loss plus feature_weight * another term.

``features`` are the vectors that kd.objectives.feature_matching computes from the hidden layers of
student and teacher. Both have the same number of them; if the method has a projection, the student's
are already projected to the teacher's shapes. Most of the papers use no soft targets, which
corresponds to a soft_weight of 0. Each term has a fixed factor, chosen on the validation images, so that
feature_weight 1 is a good start for every method.

All functions here raise ValueError without a teacher.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kd.models.inference import Outputs
from kd.objectives.base import Settings, Terms, require_teacher
from kd.objectives.response import hinton

HINT, ATTENTION, COSINE = 1.0, 5.0, 3.0  # fixed factors, multiplied by feature_weight
TINY = 1e-12  # a mean square up to which a layer counts as silent


def fitnets(student: Outputs, teacher: Outputs | None, labels: Tensor, settings: Settings) -> Terms:
    """Return hinton()'s terms and "hint", which compares the middle layers.

    The hint is half the mean squared difference between the student's middle layer, projected to
    (N, D), and the teacher's (N, D), divided by the teacher's mean square. In the paper, a first
    stage trains the layers up to the hint on the hint alone, and a second stage trains on soft
    targets; here the hint is a term of the loss throughout training. The paper sums over units;
    dividing by the teacher's mean square gives the weight the same meaning for every teacher and
    width. The hint is 0 if the teacher's layer is silent, as nothing can be predicted relative to it.
    Source: Romero et al. 2015 (FitNets, arXiv 1412.6550), equation 3.
    """
    (ours,), (theirs,) = student.features, require_teacher(teacher).features
    size = theirs.square().mean()
    hint = ((ours - theirs).square().mean() / (2 * size.clamp_min(TINY))).where(size > TINY, 0)
    return hinton(student, teacher, labels, settings) | {"hint": settings["feature_weight"] * HINT * hint}


def attention(student: Outputs, teacher: Outputs | None, labels: Tensor, settings: Settings) -> Terms:
    """Return hinton()'s terms and "attention", which compares normalized attention maps.

    The term is half the squared distance of the maps, averaged over the batch and summed over
    pairs of layers. An attention map (N, positions) is the sum of squares over the channels.
    Distances are squared as in the authors' code; the paper's equation does not square them.
    Source: Zagoruyko & Komodakis 2017 (arXiv 1612.03928), equation 2.
    """
    distance = torch.zeros((), device=student.logits.device)
    for ours, theirs in zip(student.features, require_teacher(teacher).features, strict=True):
        distance = distance + (F.normalize(ours) - F.normalize(theirs)).square().sum(1).mean() / 2
    return hinton(student, teacher, labels, settings) | {
        "attention": settings["feature_weight"] * ATTENTION * distance
    }


def cosine(student: Outputs, teacher: Outputs | None, labels: Tensor, settings: Settings) -> Terms:
    """Return hinton()'s terms and "cosine", which compares the directions of the last hidden layers.

    The term is 1 minus the cosine similarity between the student's layer, projected to (N, D), and
    the teacher's layer (N, D), averaged over the batch.
    Source: Sanh et al. 2019 (DistilBERT, arXiv 1910.01108), section 2; their networks have the
    same width and need no projection.
    """
    (ours,), (theirs,) = student.features, require_teacher(teacher).features
    distance = 1 - F.cosine_similarity(ours, theirs).mean()
    return hinton(student, teacher, labels, settings) | {
        "cosine": settings["feature_weight"] * COSINE * distance
    }
