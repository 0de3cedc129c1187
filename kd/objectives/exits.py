"""Learning from oneself: shallow exits that are taught by the deepest one."""

from __future__ import annotations

from torch import Tensor

from kd.models.inference import Outputs
from kd.objectives.base import Objective, Settings, Terms, labels_only


def from_the_deepest(objective: Objective) -> Objective:
    """An objective by which a network's end learns from labels, and each exit by ``objective`` from the end.

    The student's features are the logits (N, 10) of its exits. What the end says is taken
    as it is: it does not learn to please its exits, but the layers below it learn from all.

    Source: Zhang et al. 2019 (Be Your Own Teacher, arXiv 1905.08094), equations 3 and 4,
    without the hint between features (equation 5).
    """

    def learn(student: Outputs, teacher: Outputs | None, labels: Tensor, settings: Settings) -> Terms:
        deepest = Outputs(student.logits.detach())
        terms = labels_only(student, None, labels, settings)
        for logits in student.features:
            for name, term in objective(Outputs(logits), deepest, labels, settings).items():
                name = f"exits, {name}"
                terms[name] = terms[name] + term if name in terms else term
        return terms

    return learn
