"""The gradients of many students' losses at once, each with its own temperature and soft weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from kd.data.digits import UNLABELLED
from kd.data.task import MNIST
from kd.models.inference import Outputs
from kd.objectives.base import Objective, labels_only
from kd.objectives.response import hinton


class StackedLosses:
    """The gradients of L objectives with respect to the logits of L students.

    The gradients of Hinton's loss and of controls (which have a soft weight of 0) are analytic and
    computed together. Those of other objectives are computed one after the other, by autograd.

    Args:
        objectives: one per student; they compare logits only.
        settings: for each objective, the values that it reads, such as temperature.
        device: the device of the logits.
    """

    def __init__(
        self, objectives: Sequence[Objective], settings: Sequence[Mapping[str, float]], device: torch.device
    ):
        self._objectives, self._settings = list(objectives), list(settings)
        self._by_autograd = [i for i, o in enumerate(objectives) if o not in (hinton, labels_only)]
        weights, temperatures = [], []
        for objective, own_settings in zip(objectives, settings):
            weight = own_settings["soft_weight"] if objective is hinton else 0.0
            weights.append(weight)
            temperatures.append(own_settings["temperature"] if weight else 1.0)
        distinct = sorted(set(temperatures))
        self._classes = torch.arange(MNIST.classes, device=device).unsqueeze(1)
        self._which_temperature = torch.tensor([distinct.index(t) for t in temperatures], device=device)

        def column(values: Sequence[float]) -> Tensor:
            return torch.tensor(values, device=device).view(-1, 1, 1)

        self._distinct_inverses = column([1 / t for t in distinct])
        self._inverses = column([1 / t for t in temperatures])
        self._soft = column([w * t for w, t in zip(weights, temperatures)])
        self._hard = column([1 - w for w in weights])

    def gradient(self, logits: Tensor, teacher_logits: Tensor | None, labels: Tensor) -> Tensor:
        """Return the gradient of the sum of all losses with respect to ``logits``.

        For a soft weight w at temperature T, with N images of which M have a label, it is
        w T (student_T - teacher_T) / N + (1 - w) (student - label) / M.
        Source: Hinton, Vinyals & Dean 2015 (arXiv 1503.02531), equation 2, times T^2.

        Args:
            logits: (L, C, N).
            teacher_logits: (N, C), or None if no student has a teacher.
            labels: (N,).

        Returns:
            (L, C, N).
        """
        labelled = labels != UNLABELLED
        one_hot = (labels == self._classes).float()  # (C, N)
        result = logits.softmax(1).sub_(one_hot).mul_(labelled * (self._hard / labelled.sum().clamp_min(1)))
        if teacher_logits is not None:
            targets = (teacher_logits.t() * self._distinct_inverses).softmax(1)
            own_targets = targets.index_select(0, self._which_temperature)
            result.addcmul_((logits * self._inverses).softmax(1).sub_(own_targets), self._soft / len(labels))
        teacher = None if teacher_logits is None else Outputs(teacher_logits)
        for i in self._by_autograd:
            with torch.enable_grad():
                student = logits[i].t().contiguous().requires_grad_()
                terms = self._objectives[i](Outputs(student), teacher, labels, self._settings[i])
                loss = sum(terms.values(), torch.zeros((), device=student.device))
                result[i] = torch.autograd.grad(loss, student)[0].t()
        return result
