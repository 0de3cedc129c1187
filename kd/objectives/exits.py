"""Self-distillation: classifiers on earlier layers learn from the network's own last layer."""

from __future__ import annotations

from torch import Tensor

from kd.models.inference import Outputs
from kd.objectives.base import Objective, Settings, Terms, labels_only


def self_distillation(objective: Objective) -> Objective:
    """Return an objective: the last layer learns from labels, and each exit learns from it by ``objective``.

    The student's features are the logits (N, C) of its exits. The last layer's logits are detached
    as a target: it does not adapt to its exits, but the layers below learn from all of them.

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
