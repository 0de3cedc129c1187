"""Losses without a teacher, compared with their formulas in NumPy."""

import math

import numpy as np
import pytest
import torch

from kd.objectives import Outputs
from kd.objectives.base import cross_entropy
from kd.objectives.regularization import label_smoothing, virtual_teacher

random = np.random.default_rng(9)
LOGITS = random.normal(0, 2, (8, 10))
LABELS = np.array([3, -1, 0, 9, -1, 3, 5, 7])
LABELLED = LABELS >= 0


def terms(objective, logits=LOGITS, labels=LABELS, **settings):
    made = objective(Outputs(torch.tensor(logits)), None, torch.tensor(labels), settings)
    return {name: term.item() for name, term in made.items()}


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def targets(certainty):
    """Return probabilities, (6, 10): ``certainty`` for the label, the rest shared by the other classes."""
    rows = np.full((LABELLED.sum(), 10), (1 - certainty) / 9)
    rows[range(len(rows)), LABELS[LABELLED]] = certainty
    return rows


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_label_smoothing_is_cross_entropy_with_mixed_labels(smoothing):
    mixture = (1 - smoothing) * targets(1.0) + smoothing / 10
    by_hand = -(mixture * log_softmax(LOGITS[LABELLED])).sum(1).mean()
    assert terms(label_smoothing, smoothing=smoothing) == {"smoothed": pytest.approx(by_hand, rel=1e-12)}


def test_smoothing_0_is_the_control_objective():
    alone = cross_entropy(torch.tensor(LOGITS), torch.tensor(LABELS)).item()
    assert terms(label_smoothing, smoothing=0.0)["smoothed"] == pytest.approx(alone, rel=1e-12)


@pytest.mark.parametrize(("certainty", "temperature"), [(0.9, 1.0), (0.99, 4.0), (0.15, 20.0)])
def test_virtual_teacher_is_softened_like_a_real_one(certainty, temperature):
    powers = targets(certainty) ** (1 / temperature)
    taught = powers / powers.sum(1, keepdims=True)
    said = log_softmax(LOGITS[LABELLED] / temperature)
    by_hand = temperature**2 * (taught * (np.log(taught) - said)).sum(1).mean()
    hard = -(targets(1.0) * log_softmax(LOGITS[LABELLED])).sum(1).mean()
    found = terms(virtual_teacher, certainty=certainty, temperature=temperature, soft_weight=0.3)
    assert found == {
        "virtual teacher": pytest.approx(0.3 * by_hand, rel=1e-10),
        "hard": pytest.approx(0.7 * hard, rel=1e-12),
    }


def test_student_equal_to_the_virtual_teacher_has_zero_loss():
    logits = np.zeros((8, 10))
    logits[range(8), LABELS] = math.log(0.9 / (0.1 / 9))
    found = terms(virtual_teacher, logits, certainty=0.9, temperature=4.0, soft_weight=1.0)
    assert found["virtual teacher"] == pytest.approx(0, abs=1e-12)
    logits[0, LABELS[0]] += 2  # more confident than its teacher
    assert (
        terms(virtual_teacher, logits, certainty=0.9, temperature=4.0, soft_weight=1.0)["virtual teacher"]
        > 1e-3
    )


def test_virtual_teacher_smooths_labels_at_temperature_1():
    """KL and cross-entropy have equal gradients; smoothing s gives the label 1 - s + s / 10."""
    smoothing = 0.1

    def gradient(objective, **settings):
        logits = torch.tensor(LOGITS, requires_grad=True)
        made = objective(Outputs(logits), None, torch.tensor(LABELS), settings)
        return torch.autograd.grad(sum(made.values()), logits)[0]

    virtual = gradient(
        virtual_teacher, certainty=1 - smoothing + smoothing / 10, temperature=1.0, soft_weight=1.0
    )
    torch.testing.assert_close(virtual, gradient(label_smoothing, smoothing=smoothing), rtol=1e-9, atol=1e-12)
