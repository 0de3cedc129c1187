"""Methods that compare hidden layers, image by image: Hinton's loss and feature_weight * one more term.

``features`` of student and teacher are what kd.objectives.feature_matching made of their hidden
layers: as many of both, the student's already mapped to the teacher's shapes where
the method has a projection. With soft_weight 0 the loss is that of most of the
papers, which have no soft targets. feature_weight 1 stands for a fixed number beside
each term, so that it is a good start for every method; it was chosen on the validation images.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from kd.models.inference import Outputs
from kd.objectives.base import Settings, Terms, hinton

HINT, ATTENTION, COSINE = 1.0, 5.0, 3.0  # what feature_weight 1 stands for


def fitnets(student: Outputs, teacher: Outputs | None, labels: Tensor, settings: Settings) -> Terms:
    """Half the squared distance of the student's middle layer, projected, to the teacher's, by the teacher's mean square.

    In the paper the layers below the hint learn it in a first stage of their own, before
    the soft targets; here it is a term beside them all the way. The paper sums over units;
    by the mean square of the teacher's, the weight means the same for every teacher and width.
    Source: Romero et al. 2015 (FitNets, arXiv 1412.6550), equation 3.
    """
    (said,), (taught,) = student.features, teacher.features
    hint = (said - taught).square().mean() / (2 * taught.square().mean().clamp_min(1e-12))
    return hinton(student, teacher, labels, settings) | {"hint": settings["feature_weight"] * HINT * hint}


def attention(student: Outputs, teacher: Outputs | None, labels: Tensor, settings: Settings) -> Terms:
    """Half the squared distance of the normalized attention maps, mean over the batch, summed over pairs of layers.

    An attention map (N, places) is the sum over channels of squares. Squared distances,
    as in the authors' program; the paper's equation has them unsquared.
    Source: Zagoruyko & Komodakis 2017 (arXiv 1612.03928), equation 2.
    """
    pairs = zip(student.features, teacher.features, strict=True)
    maps = sum((F.normalize(said) - F.normalize(taught)).square().sum(1).mean() / 2 for said, taught in pairs)
    return hinton(student, teacher, labels, settings) | {
        "attention": settings["feature_weight"] * ATTENTION * maps
    }


def cosine(student: Outputs, teacher: Outputs | None, labels: Tensor, settings: Settings) -> Terms:
    """1 - the cosine of the student's last hidden layer, projected, and the teacher's; mean over the batch.

    Source: Sanh et al. 2019 (DistilBERT, arXiv 1910.01108), section 2, whose networks are of one width and need no projection.
    """
    (said,), (taught,) = student.features, teacher.features
    angle = 1 - F.cosine_similarity(said, taught).mean()
    return hinton(student, teacher, labels, settings) | {
        "cosine": settings["feature_weight"] * COSINE * angle
    }
