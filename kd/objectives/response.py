"""Methods that compare the two networks' answers: their logits, and what softmax makes of them.

All replace the soft term of Hinton's loss by another, so that soft_weight means the same:

    soft_weight * (the method's terms) + (1 - soft_weight) * CE(labels)

Terms are summed over classes and averaged over the batch, and divergences at a
temperature have the factor T^2, since their gradients fall as 1/T^2 too.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from kd.data.digits import UNLABELLED
from kd.models.inference import Outputs
from kd.objectives.base import Settings, Terms, beside_labels, soft_loss


def kl(first: Tensor, second: Tensor) -> Tensor:
    """KL(first || second) of log-probabilities (N, C): a scalar in nats, mean over the batch."""
    return (first.exp() * (first - second)).sum(1).mean()


def mse(student: Outputs, teacher: Outputs | None, labels: Tensor, settings: Settings) -> Terms:
    """||student's logits - teacher's logits||^2 / (2 C), mean over the batch.

    Divided by twice the number of classes C, since then it is what Hinton's soft term
    becomes at an infinite temperature (for logits that sum to zero): the gradient is
    (student - teacher) / C. Plain logits, not probabilities, whose gradient would vanish.
    Source: Kim et al. 2021 (arXiv 2105.08919), the loss L_MSE; Hinton et al. 2015, equation 4.
    """
    squares = (student.logits - teacher.logits).square().sum(1).mean() / (2 * student.logits.shape[1])
    return beside_labels({"logits": squares}, student, labels, settings)


def dkd(student: Outputs, teacher: Outputs | None, labels: Tensor, settings: Settings) -> Terms:
    """T^2 * (target_weight * KL of (target, rest) + nontarget_weight * KL within the rest).

    The first says how sure to be of the target class, the second how the other classes
    compare; Hinton's soft term has the second weighted by 1 - the teacher's probability of
    the target, so that it vanishes where the teacher is sure. The paper's alpha and beta are
    target_weight and nontarget_weight; its loss has weight 1 for the labels, here it is
    1 - soft_weight, as for all methods. An image without a label has the teacher's class
    as its target, so that it still teaches.
    Source: Zhao et al. 2022 (arXiv 2203.08679), equations 5 to 7.
    """
    temperature = settings["temperature"]
    target = torch.where(labels == UNLABELLED, teacher.logits.argmax(1), labels).unsqueeze(1)
    taught, taught_rest = _decoupled(teacher.logits / temperature, target)
    said, said_rest = _decoupled(student.logits / temperature, target)
    soft = {
        "target": settings["target_weight"] * temperature**2 * kl(taught, said),
        "non-target": settings["nontarget_weight"] * temperature**2 * kl(taught_rest, said_rest),
    }
    return beside_labels(soft, student, labels, settings)


def _decoupled(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities (N, 2) of the target (N, 1) and of all other classes, and (N, C - 1) of each other class among them."""
    others = torch.ones_like(logits, dtype=torch.bool).scatter_(1, target, False)
    shares = F.log_softmax(logits, 1)
    rest = shares[others].view(len(logits), -1)
    together = rest.logsumexp(1, keepdim=True)
    return torch.cat([shares.gather(1, target), together], 1), rest - together


def dist(student: Outputs, teacher: Outputs | None, labels: Tensor, settings: Settings) -> Terms:
    """16 * (1 - correlation over the classes) + intra_weight * 16 * (1 - correlation over the images).

    Pearson's correlation of the probabilities at T: the first, of an image's classes,
    means over the batch; the second, of a class's images, means over the classes. A
    student that ranks as the teacher does need not match its values. The authors' program
    has the factor T^2 where there is 16 here (their T is 4): a correlation knows no scale, so its
    gradient does not fall with T, and T^2 would make it grow. Their beta is soft_weight
    here, their gamma soft_weight * intra_weight.
    Source: Huang et al. 2022 (arXiv 2205.10536), section 4, the losses L_inter and L_intra.
    """
    said, taught = ((who.logits / settings["temperature"]).softmax(1) for who in (student, teacher))
    soft = {
        "inter-class": 16 * (1 - _correlation(said, taught)).mean(),
        "intra-class": 16 * settings["intra_weight"] * (1 - _correlation(said.t(), taught.t())).mean(),
    }
    return beside_labels(soft, student, labels, settings)


def _correlation(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's, of each pair of rows of (N, C): (N,); 0 where a row is constant."""
    return F.cosine_similarity(
        first - first.mean(1, keepdim=True), second - second.mean(1, keepdim=True), dim=1
    )


def standardized(student: Outputs, teacher: Outputs | None, labels: Tensor, settings: Settings) -> Terms:
    """Hinton's loss on z-scores: each image's logits, less their mean, by their standard deviation.

    The student need not reach the teacher's range of logits, only its shape.
    Source: Sun et al. 2024 (arXiv 2403.01427), algorithm 1.
    """
    said, taught = (F.layer_norm(who.logits, who.logits.shape[1:], eps=1e-7) for who in (student, teacher))
    return beside_labels(
        {"soft": soft_loss(said, taught, settings["temperature"])}, student, labels, settings
    )


def reverse_kl(student: Outputs, teacher: Outputs | None, labels: Tensor, settings: Settings) -> Terms:
    """T^2 * KL(student_T || teacher_T): the student may leave out what the teacher finds possible, and adds nothing.

    Source: Gu et al. 2024 (MiniLLM, arXiv 2306.08543), section 2.1; Agarwal et al. 2024 (GKD, arXiv 2306.13649), section 2.
    """
    said, taught = (F.log_softmax(who.logits / settings["temperature"], 1) for who in (student, teacher))
    return beside_labels(
        {"reverse KL": settings["temperature"] ** 2 * kl(said, taught)}, student, labels, settings
    )


def jsd(student: Outputs, teacher: Outputs | None, labels: Tensor, settings: Settings) -> Terms:
    """T^2 / (m (1 - m)) * [m KL(teacher_T || mixture) + (1 - m) KL(student_T || mixture)], m = jsd_mix.

    The mixture is m teacher_T + (1 - m) student_T. Divided by m (1 - m), beyond the
    paper, so that near the teacher the gradient is that of the KL whatever the mix, and
    m = 0 gives KL(teacher || student), m = 1 KL(student || teacher) instead of nothing.
    Source: Agarwal et al. 2024 (GKD, arXiv 2306.13649), section 2, the generalized JSD.
    """
    mix, temperature = settings["jsd_mix"], settings["temperature"]
    said, taught = (F.log_softmax(who.logits / temperature, 1) for who in (student, teacher))
    if mix < 1e-3:  # too near for the difference of two small numbers
        divergence = kl(taught, said)
    elif mix > 1 - 1e-3:
        divergence = kl(said, taught)
    else:
        mixture = torch.logaddexp(taught + math.log(mix), said + math.log(1 - mix))
        divergence = kl(taught, mixture) / (1 - mix) + kl(said, mixture) / mix
    return beside_labels({"divergence": temperature**2 * divergence}, student, labels, settings)
