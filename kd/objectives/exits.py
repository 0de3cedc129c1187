"""Self-distillation: classifiers on earlier layers learn from the network's own last layer."""

from __future__ import annotations

from torch import Tensor

from kd.models.inference import Outputs
from kd.objectives.base import Objective, Settings, Terms, labels_only


def self_distillation(objective: Objective) -> Objective:
    """Return an objective that trains the last layer on labels, and each exit on the last layer.

    Exits learn from the last layer's logits by ``objective``, as a student learns from its teacher.
    The student's features are the logits (N, C) of its exits. As targets, the last layer's logits
    are detached, so the last layer does not adapt to the exits; the layers shared with the exits
    learn from all of them.

    Source: Zhang et al. 2019 (Be Your Own Teacher, arXiv 1905.08094), equations 3 and 4,
    without the hint between features (equation 5).
    """

    def loss(student: Outputs, teacher: Outputs | None, labels: Tensor, settings: Settings) -> Terms:
        deepest = Outputs(student.logits.detach())
        terms = labels_only(student, None, labels, settings)
        for logits in student.features:
            for name, term in objective(Outputs(logits), deepest, labels, settings).items():
                key = f"exits, {name}"
                terms[key] = terms[key] + term if key in terms else term
        return terms

    return loss
