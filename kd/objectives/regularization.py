"""Methods without a teacher: soft targets made from the labels. Images without a label teach nothing."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from kd.data.digits import UNLABELLED
from kd.models.inference import Outputs
from kd.objectives.base import Settings, Terms, beside_labels, soft_loss


def label_smoothing(student: Outputs, teacher: Outputs | None, labels: Tensor, settings: Settings) -> Terms:
    """Cross-entropy with (1 - s) * the label + s / C for each of the C classes, s = smoothing.

    Source: Szegedy et al. 2016 (arXiv 1512.00567), section 7.
    """
    return {
        "smoothed": F.cross_entropy(
            student.logits, labels, ignore_index=UNLABELLED, label_smoothing=settings["smoothing"]
        )
    }


def virtual_teacher(student: Outputs, teacher: Outputs | None, labels: Tensor, settings: Settings) -> Terms:
    """Hinton's loss with a teacher made by hand, which gives the label the probability ``certainty``, all others the same.

    It is softened as a teacher is: at T its logits are divided by T, and the term has
    the factor T^2. The authors' program has factors of its own in that place; soft_weight
    is the paper's alpha.
    Source: Yuan et al. 2020 (Tf-KD_reg, arXiv 1909.11723), section 4.
    """
    labelled, certainty, classes = labels != UNLABELLED, settings["certainty"], student.logits.shape[1]
    ahead = math.log(certainty / (1 - certainty) * (classes - 1))  # the label's logit over the others'
    taught = ahead * F.one_hot(labels[labelled], classes).to(student.logits.dtype)
    soft = soft_loss(student.logits[labelled], taught, settings["temperature"])
    return beside_labels({"virtual teacher": soft}, student, labels, settings)
