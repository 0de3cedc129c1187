"""Hinton's loss of many students at once, each with its own temperature and soft weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from kd.data.digits import UNLABELLED
from kd.data.task import MNIST
from kd.models.inference import Outputs
from kd.objectives.base import Objective, hinton, labels_only


class Stacked:
    """The gradients of L objectives by L students' logits.

    Those of Hinton's loss, and of controls, whose soft weight is 0, are written out and computed in one; those of
    other methods one after the other, by autograd.

    Args:
        objectives: of answers alone, one for each student.
        settings: that each reads.
    """

    def __init__(
        self, objectives: Sequence[Objective], settings: Sequence[Mapping[str, float]], device: torch.device
    ):
        self._objectives, self._settings = list(objectives), list(settings)
        known = [objective in (hinton, labels_only) for objective in objectives]
        self._others = [i for i, written_out in enumerate(known) if not written_out]
        weights = [s["soft_weight"] if o is hinton else 0.0 for o, s in zip(objectives, settings)]
        temperatures = [
            s["temperature"] if o is hinton and w else 1.0 for o, s, w in zip(objectives, settings, weights)
        ]
        self._classes = torch.arange(MNIST.classes, device=device).unsqueeze(1)
        distinct = sorted(set(temperatures))
        self._which = torch.tensor([distinct.index(t) for t in temperatures], device=device)

        def column(values: Sequence[float]) -> Tensor:
            return torch.tensor(values, device=device).view(-1, 1, 1)

        self._distinct = column([1 / t for t in distinct])
        self._sharpness = column([1 / t for t in temperatures])
        self._soft = column([w * t for w, t in zip(weights, temperatures)])
        self._hard = column([1 - w for w in weights])

    def gradient(self, logits: Tensor, taught: Tensor | None, labels: Tensor) -> Tensor:
        """By ``logits`` (L, C, N), of the sum of all losses.

        For a soft weight w at temperature T it is w T (student_T - teacher_T) / N + (1 - w) (student - label) / M, of N
        images and M with a label. Source: Hinton, Vinyals & Dean 2015, equation 2, times T^2.

        Args:
            taught: the teacher's logits (N, C); None where nobody has a teacher.
            labels: (N,).
        """
        labelled = labels != UNLABELLED
        right = (labels == self._classes).float()  # (C, N)
        found = logits.softmax(1).sub_(right).mul_(labelled * (self._hard / labelled.sum()))
        if taught is not None:
            target = (taught.t() * self._distinct).softmax(1).index_select(0, self._which)
            found.addcmul_((logits * self._sharpness).softmax(1).sub_(target), self._soft / len(labels))
        for i in self._others:
            with torch.enable_grad():
                said = logits[i].t().contiguous().requires_grad_()
                terms = self._objectives[i](
                    Outputs(said), taught if taught is None else Outputs(taught), labels, self._settings[i]
                )
                found[i] = torch.autograd.grad(sum(terms.values()), said)[0].t()
        return found
