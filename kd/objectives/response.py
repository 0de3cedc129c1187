"""Methods that compare the two networks' logits, or the probabilities computed from them.

Each replaces the soft term of Hinton's loss with another, so that soft_weight keeps its meaning:

    soft_weight * (the method's terms) + (1 - soft_weight) * CE(labels)

Terms are scalars, summed over classes and averaged over the batch. Divergences at a temperature T
are in nats and multiplied by T^2, because their gradients fall as 1/T^2. All methods here take
logits (N, C) of student and teacher, and raise ValueError without a teacher.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kd.data.digits import UNLABELLED
from kd.models.inference import Outputs
from kd.objectives.base import (
    Settings,
    Terms,
    hard_with_gradient,
    require_teacher,
    soft_loss,
    soft_with_gradient,
    with_label_term,
)


def kl(first: Tensor, second: Tensor) -> Tensor:
    """Return KL(first || second) of log-probabilities (N, C): a scalar in nats, averaged over the batch."""
    return (first.exp() * (first - second)).sum(1).mean()


def hinton(student: Outputs, teacher: Outputs | None, labels: Tensor, settings: Settings) -> Terms:
    """Return the terms of soft_weight * T^2 * KL(teacher_T || student_T) + (1 - soft_weight) * CE(labels).

    Source: Hinton, Vinyals & Dean 2015 (arXiv 1503.02531), section 2.

    Args:
        student: logits (N, C).
        teacher: logits (N, C), without gradient.
        labels: class indices (N,), UNLABELLED for images without a label.
        settings: temperature and soft_weight.

    Raises:
        ValueError: there is no teacher.
    """
    soft = soft_loss(student.logits, require_teacher(teacher).logits, settings["temperature"])
    return with_label_term({"soft": soft}, student, labels, settings)


def hinton_with_gradient(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, settings: Settings
) -> tuple[Terms, Tensor]:
    """Return the terms of hinton(), and their sum's gradient with respect to the student's logits (N, C)."""
    weight = settings["soft_weight"]
    soft, soft_gradient = soft_with_gradient(student_logits, teacher_logits, settings["temperature"])
    hard, hard_gradient = hard_with_gradient(student_logits, labels, 1 - weight)
    return {"soft": weight * soft, "hard": hard}, soft_gradient.mul_(weight).add_(hard_gradient)


def mse(student: Outputs, teacher: Outputs | None, labels: Tensor, settings: Settings) -> Terms:
    """Return "logits", ||student's logits - teacher's logits||^2 / (2 C), and "hard".

    The division by twice the number of classes C makes it the limit of Hinton's soft term at an
    infinite temperature (for logits that sum to zero): the gradient is (student - teacher) / C.
    It compares logits because the gradient of a squared error between probabilities would vanish.
    Source: Kim et al. 2021 (arXiv 2105.08919), the loss L_MSE; Hinton et al. 2015, equation 4.
    """
    difference = student.logits - require_teacher(teacher).logits
    squares = difference.square().sum(1).mean() / (2 * student.logits.shape[1])
    return with_label_term({"logits": squares}, student, labels, settings)


def dkd(student: Outputs, teacher: Outputs | None, labels: Tensor, settings: Settings) -> Terms:
    """Return "target" and "non-target", the two weighted parts of the KL divergence, and "hard".

    T^2 * (target_weight * KL of (target, rest) + nontarget_weight * KL within the rest). The first
    part says how likely the target class is, the second how the other classes compare. In Hinton's
    soft term the second is weighted by 1 - the teacher's probability of the target, so it vanishes
    where the teacher is confident. The paper's alpha and beta are target_weight and
    nontarget_weight. The paper weights the label term by 1; all methods here weight it by
    1 - soft_weight.
    For an unlabelled image, the target is the class that the teacher predicts.
    Source: Zhao et al. 2022 (arXiv 2203.08679), equations 5 to 7.
    """
    temperature, teacher_logits = settings["temperature"], require_teacher(teacher).logits
    target = torch.where(labels == UNLABELLED, teacher_logits.argmax(1), labels).unsqueeze(1)
    theirs, their_rest = _decouple(teacher_logits / temperature, target)
    ours, our_rest = _decouple(student.logits / temperature, target)
    soft = {
        "target": settings["target_weight"] * temperature**2 * kl(theirs, ours),
        "non-target": settings["nontarget_weight"] * temperature**2 * kl(their_rest, our_rest),
    }
    return with_label_term(soft, student, labels, settings)


def _decouple(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Split logits (N, C) at the target classes (N, 1).

    Returns:
        Log-probabilities (N, 2) of the target and of all other classes combined; and log-probabilities
        (N, C - 1) of the other classes, given that it is not the target.
    """
    others = torch.ones_like(logits, dtype=torch.bool).scatter_(1, target, False)
    log_probabilities = F.log_softmax(logits, 1)
    rest = log_probabilities[others].view(len(logits), -1)
    together = rest.logsumexp(1, keepdim=True)
    return torch.cat([log_probabilities.gather(1, target), together], 1), rest - together


def dist(student: Outputs, teacher: Outputs | None, labels: Tensor, settings: Settings) -> Terms:
    """Return "inter-class" and "intra-class", 16 * (1 - correlation) each, and "hard".

    Both use Pearson's correlation between the student's and the teacher's probabilities at T.
    "inter-class" correlates the classes of each image and is averaged over the batch; "intra-class"
    correlates the images for each class, is averaged over the classes and weighted by intra_weight.
    The student need not match the teacher's values: both terms are also 0 if its probabilities are an
    increasing linear function of the teacher's. A term is 0 too if the teacher's values are all equal,
    as those of the only image of a batch: there is nothing to correlate with.
    The authors' code has the factor T^2, with T = 4, instead of 16. A correlation does not depend on
    scale, so its gradient does not fall with T, and a factor T^2 would make it grow. Their beta is
    soft_weight here, and their gamma is soft_weight * intra_weight.
    Source: Huang et al. 2022 (arXiv 2205.10536), section 4, the losses L_inter and L_intra.
    """
    ours = (student.logits / settings["temperature"]).softmax(1)
    theirs = (require_teacher(teacher).logits / settings["temperature"]).softmax(1)
    soft = {
        "inter-class": 16 * _lost_correlation(ours, theirs).mean(),
        "intra-class": 16 * settings["intra_weight"] * _lost_correlation(ours.t(), theirs.t()).mean(),
    }
    return with_label_term(soft, student, labels, settings)


def _lost_correlation(student: Tensor, teacher: Tensor) -> Tensor:
    """Return 1 - Pearson's correlation (N,) of each pair of rows of (N, C).

    It is 0 where the teacher's row is constant, which ranks nothing; it is 1 where only the student's is.
    """
    correlation = F.cosine_similarity(
        student - student.mean(1, keepdim=True), teacher - teacher.mean(1, keepdim=True), dim=1
    )
    return (1 - correlation).masked_fill(teacher.amax(1) == teacher.amin(1), 0)


def standardized(student: Outputs, teacher: Outputs | None, labels: Tensor, settings: Settings) -> Terms:
    """Return Hinton's terms on z-scores: each image's logits minus their mean, over their standard deviation.

    The student only has to match the shape of the teacher's logits, not their range. The standard
    deviation divides by the number of classes C, as layer normalization does; the authors' code
    divides by C - 1, which makes their z-scores smaller by sqrt(1 - 1/C), as if T were larger.
    Source: Sun et al. 2024 (arXiv 2403.01427), algorithm 1.
    """
    ours = F.layer_norm(student.logits, student.logits.shape[1:], eps=1e-7)
    teacher_logits = require_teacher(teacher).logits
    theirs = F.layer_norm(teacher_logits, teacher_logits.shape[1:], eps=1e-7)
    soft = soft_loss(ours, theirs, settings["temperature"])
    return with_label_term({"soft": soft}, student, labels, settings)


def reverse_kl(student: Outputs, teacher: Outputs | None, labels: Tensor, settings: Settings) -> Terms:
    """Return "reverse KL", T^2 * KL(student_T || teacher_T), and "hard".

    The student may ignore classes that the teacher finds possible, but it is penalized for
    predicting classes that the teacher rules out.
    Source: Gu et al. 2024 (MiniLLM, arXiv 2306.08543), section 2.1; Agarwal et al. 2024 (GKD,
    arXiv 2306.13649), section 2.
    """
    temperature = settings["temperature"]
    ours = F.log_softmax(student.logits / temperature, 1)
    theirs = F.log_softmax(require_teacher(teacher).logits / temperature, 1)
    return with_label_term({"reverse KL": temperature**2 * kl(ours, theirs)}, student, labels, settings)


def jsd(student: Outputs, teacher: Outputs | None, labels: Tensor, settings: Settings) -> Terms:
    """Return "divergence", the generalized Jensen-Shannon divergence, and "hard".

    T^2 / (m (1 - m)) * [m KL(teacher_T || mixture) + (1 - m) KL(student_T || mixture)], with
    m = jsd_mix and the mixture m teacher_T + (1 - m) student_T. The paper does not divide by
    m (1 - m). With the division, the gradient near the teacher is that of the KL divergence for every
    m, and the limits are KL(teacher || student) at m = 0 and KL(student || teacher) at m = 1; without
    it, both are 0.
    Source: Agarwal et al. 2024 (GKD, arXiv 2306.13649), section 2, the generalized JSD.
    """
    mix, temperature = settings["jsd_mix"], settings["temperature"]
    ours = F.log_softmax(student.logits.double() / temperature, 1)
    theirs = F.log_softmax(require_teacher(teacher).logits.double() / temperature, 1)
    divergence = _jensen_shannon(theirs, ours, mix).to(student.logits.dtype)
    return with_label_term({"divergence": temperature**2 * divergence}, student, labels, settings)


def _jensen_shannon(teacher: Tensor, student: Tensor, mix: float) -> Tensor:
    """Return the divided divergence of jsd() for log-probabilities (N, C) in double precision: a scalar.

    The mixture is expressed by its ratio to the student and to the teacher. For a small m it almost
    equals the student, and the logarithms of both, rounded and divided by m, would differ by chance.
    """
    if mix < 1e-12:
        return kl(teacher, student)
    if mix > 1 - 1e-12:
        return kl(student, teacher)
    ratio = (teacher - student).clamp(-700, 700)  # beyond, exp() overflows and the term is 0
    by_teacher = teacher.exp() * torch.log1p((1 - mix) * torch.expm1(-ratio)) / (1 - mix)
    by_student = student.exp() * torch.log1p(mix * torch.expm1(ratio)) / mix
    return -(by_teacher + by_student).sum(1).mean()
