"""What an objective wants of a network: the gradient by what the network said, from which its own backward pass goes on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kd.models.inference import Outputs
from kd.objectives.base import (
    Objective,
    Settings,
    Terms,
    hinton,
    hinton_with_gradient,
    labels_only,
    labels_only_with_gradient,
)
from kd.objectives.feature_matching import Connection


def wanted(
    objective: Objective,
    said: Outputs,
    taught: Outputs | None,
    labels: Tensor,
    settings: Settings,
    connection: Connection | None = None,
) -> tuple[Terms, Outputs, Sequence[Tensor]]:
    """The objective's terms, and the gradients of their sum.

    Those of soft targets and of labels alone are written out: of mlp-128 at 128 images a batch autograd takes 250
    microseconds more a step, a quarter of all.

    Args:
        said: by the network, detached.
        connection: with the teacher's hidden layers, where the objective compares them.

    Returns:
        The terms, detached; the gradients by ``said``, None by features that do not matter; and those by
        the weights of the connection's projection.
    """
    if connection is None and objective is hinton:
        terms, gradient = hinton_with_gradient(said.logits, taught.logits, labels, settings)
        return terms, Outputs(gradient), ()
    if connection is None and objective is labels_only:
        terms, gradient = labels_only_with_gradient(said.logits, labels)
        return terms, Outputs(gradient), ()
    said = Outputs(
        said.logits.detach().requires_grad_(),
        tuple(feature.detach().requires_grad_() for feature in said.features),
    )
    weights = list((connection and connection.projection or nn.Module()).parameters())
    terms = objective(connection(said) if connection else said, taught, labels, settings)
    found = torch.autograd.grad(
        list(terms.values()), [said.logits, *said.features, *weights], allow_unused=True
    )
    by_logits, *by_features = found[: 1 + len(said.features)]
    if by_logits is None:
        by_logits = torch.zeros_like(said.logits)
    return (
        {name: term.detach() for name, term in terms.items()},
        Outputs(by_logits, tuple(by_features)),
        found[1 + len(said.features) :],
    )
