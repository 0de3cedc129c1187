"""Methods without a teacher: soft targets made from the labels. Unlabelled images do not contribute."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from kd.data.digits import UNLABELLED
from kd.models.inference import Outputs
from kd.objectives.base import Settings, Terms, soft_loss, with_label_term, zero_without_labels


def label_smoothing(student: Outputs, teacher: Outputs | None, labels: Tensor, settings: Settings) -> Terms:
    """Return "smoothed", the cross-entropy with the targets (1 - s) * one_hot(label) + s / C.

    s is the setting smoothing, C the number of classes. The term is a scalar in nats, averaged over the
    labelled images.
    Source: Szegedy et al. 2016 (arXiv 1512.00567), section 7.
    """
    smoothed = F.cross_entropy(
        student.logits, labels, ignore_index=UNLABELLED, label_smoothing=settings["smoothing"]
    )
    return {"smoothed": zero_without_labels(smoothed, labels)}


def virtual_teacher(student: Outputs, teacher: Outputs | None, labels: Tensor, settings: Settings) -> Terms:
    """Return Hinton's loss with a constructed teacher, and (1 - soft_weight) * CE(labels).

    The constructed teacher gives the label the probability ``certainty`` and shares the rest
    equally among the other classes. It is softened like any teacher: its logits are divided by T,
    and the term has the factor T^2. The authors' code scales the term differently; soft_weight is
    the paper's alpha.
    Source: Yuan et al. 2020 (Tf-KD_reg, arXiv 1909.11723), section 4.
    """
    labelled, certainty = labels != UNLABELLED, settings["certainty"]
    classes = student.logits.shape[1]
    label_logit = math.log(certainty / (1 - certainty) * (classes - 1))  # the other logits are 0
    teacher_logits = label_logit * F.one_hot(labels[labelled], classes).to(student.logits.dtype)
    soft = soft_loss(student.logits[labelled], teacher_logits, settings["temperature"])
    return with_label_term({"virtual teacher": soft}, student, labels, settings)
