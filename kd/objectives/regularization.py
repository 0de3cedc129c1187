"""Methods without a teacher: soft targets made from the labels. Unlabelled images do not contribute."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from kd.data.digits import UNLABELLED
from kd.models.inference import Outputs
from kd.objectives.base import Settings, Terms, soft_loss, with_label_term


def label_smoothing(student: Outputs, teacher: Outputs | None, labels: Tensor, settings: Settings) -> Terms:
    """Return the cross-entropy with targets of (1 - s) * one-hot label + s / C for C classes; s = smoothing.

    A scalar in nats, the mean over labelled images.
    Source: Szegedy et al. 2016 (arXiv 1512.00567), section 7.
    """
    return {
        "smoothed": F.cross_entropy(
            student.logits, labels, ignore_index=UNLABELLED, label_smoothing=settings["smoothing"]
        )
    }


def virtual_teacher(student: Outputs, teacher: Outputs | None, labels: Tensor, settings: Settings) -> Terms:
    """Return Hinton's loss with a constructed teacher, and (1 - soft_weight) * CE(labels).

    The constructed teacher gives the label the probability ``certainty`` and shares the rest
    equally among the other classes. It is softened like any teacher: its logits are divided by T,
    and the term has the factor T^2. The authors' code has other factors there; soft_weight is the
    paper's alpha.
    Source: Yuan et al. 2020 (Tf-KD_reg, arXiv 1909.11723), section 4.
    """
    labelled, certainty = labels != UNLABELLED, settings["certainty"]
    classes = student.logits.shape[1]
    ahead = math.log(certainty / (1 - certainty) * (classes - 1))  # the label's logit; the others are 0
    teacher_logits = ahead * F.one_hot(labels[labelled], classes).to(student.logits.dtype)
    soft = soft_loss(student.logits[labelled], teacher_logits, settings["temperature"])
    return with_label_term({"virtual teacher": soft}, student, labels, settings)
