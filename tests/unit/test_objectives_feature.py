"""Losses on hidden layers, compared with their formulas in NumPy and with properties from the papers."""

import numpy as np
import pytest
import torch

from kd.objectives import Outputs, hinton
from kd.objectives.feature import ATTENTION, COSINE, HINT, attention, cosine, fitnets
from kd.objectives.feature_matching import View

SETTINGS = {"temperature": 4.0, "soft_weight": 0.5, "feature_weight": 0.7}
random = np.random.default_rng(6)
N = 5
LOGITS = random.normal(0, 2, (2, N, 10))
LABELS = torch.tensor([3, -1, 0, 9, -1])


def term(objective, name, student, teacher, **changes):
    """Return the term ``name`` for one or several arrays of features; check that other terms are Hinton's."""
    said, taught = (
        Outputs(
            torch.tensor(logits),
            tuple(torch.tensor(f) for f in (features if isinstance(features, list) else [features])),
        )
        for logits, features in zip(LOGITS, (student, teacher))
    )
    terms = objective(said, taught, LABELS, SETTINGS | changes)
    assert {key: value.item() for key, value in terms.items() if key != name} == {
        key: value.item() for key, value in hinton(said, taught, LABELS, SETTINGS | changes).items()
    }
    return terms[name].item()


def test_hint_is_half_the_normalized_squared_distance():
    student, teacher = random.normal(size=(2, N, 7))
    by_hand = (
        sum((s - t) ** 2 for s, t in zip(student.ravel(), teacher.ravel()))
        / 2
        / sum(t * t for t in teacher.ravel())
    )
    assert term(fitnets, "hint", student, teacher) == pytest.approx(0.7 * HINT * by_hand, rel=1e-12)
    assert term(fitnets, "hint", 50 * student, 50 * teacher) == pytest.approx(0.7 * HINT * by_hand, rel=1e-12)
    assert term(fitnets, "hint", 0 * student, teacher) == pytest.approx(0.7 * HINT / 2, rel=1e-12)


def test_hint_of_a_silent_teacher_is_0():
    student, teacher = random.normal(size=(2, N, 7))
    assert term(fitnets, "hint", student, 0 * teacher) == 0
    assert term(fitnets, "hint", student, 1e-3 * teacher) > 1e5, "a faint layer still teaches"


def test_cosine_term_is_one_minus_the_mean_cosine():
    student, teacher = random.normal(size=(2, N, 7))
    cosines = [s @ t / np.sqrt((s @ s) * (t @ t)) for s, t in zip(student, teacher)]
    by_hand = 0.7 * COSINE * (1 - np.mean(cosines))
    assert term(cosine, "cosine", student, teacher) == pytest.approx(by_hand, rel=1e-12)
    lengths = random.uniform(0.1, 9, (N, 1))
    assert term(cosine, "cosine", lengths * student, 3 * teacher) == pytest.approx(by_hand, rel=1e-12)
    assert term(cosine, "cosine", -student, student) == pytest.approx(0.7 * COSINE * 2, rel=1e-12)


# -- attention ---------------------------------------------------------------------------------

MAPS = View((0, 1), (4, 2), attention=True)


def maps(seed, channels=(3, 5), sides=(8, 4)):
    """Return two feature maps, (N, 3, 8, 8) and (N, 5, 4, 4)."""
    random = np.random.default_rng(seed)
    return [random.normal(size=(N, count, side, side)) for count, side in zip(channels, sides)]


def looked_at(features):
    return [part.numpy() for part in MAPS([torch.tensor(feature) for feature in features])]


def attention_by_hand(student, teacher):
    total = 0.0
    for side, ours, theirs in zip(MAPS.sides, student, teacher):
        for one, other in zip(ours, theirs):
            both = []
            for feature in (one, other):
                squares = (feature**2).sum(0)
                cell = squares.shape[0] // side
                flat = squares.reshape(side, cell, side, cell).mean((1, 3)).ravel()
                both.append(flat / np.sqrt((flat**2).sum()))
            total += ((both[0] - both[1]) ** 2).sum() / 2
    return total / N


def test_attention_compares_normalized_sums_of_squares():
    student, teacher = maps(1), maps(2, channels=(6, 2))
    by_hand = 0.7 * ATTENTION * attention_by_hand(student, teacher)
    assert term(attention, "attention", looked_at(student), looked_at(teacher)) == pytest.approx(
        by_hand, rel=1e-12
    )


def test_attention_ignores_scale_and_channel():
    student = maps(1)
    turned = [-3 * feature[:, ::-1].copy() for feature in student]
    assert term(attention, "attention", looked_at(turned), looked_at(student)) == pytest.approx(0, abs=1e-12)
    moved = [feature[:, :, ::-1].copy() for feature in student]
    assert term(attention, "attention", looked_at(moved), looked_at(student)) > 0.01


def test_attention_needs_equally_many_layers_of_both():
    with pytest.raises(ValueError):
        term(attention, "attention", looked_at(maps(1)), looked_at(maps(2))[:1])
