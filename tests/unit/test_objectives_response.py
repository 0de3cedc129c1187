"""Losses on logits, compared with their formulas in NumPy and with properties from the papers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kd.objectives import METHODS, Outputs, soft_loss
from kd.objectives.response import dist, dkd, jsd, mse, reverse_kl, standardized

T = 2.5
LABELS = np.array([3, -1, 0, 9, -1, 3, 5, 7])
random = np.random.default_rng(5)
STUDENT, TEACHER = random.normal(0, 2, (8, 10)), random.normal(0, 4, (8, 10))


def terms(objective, student=STUDENT, teacher=TEACHER, labels=LABELS, **settings):
    """Return the terms as numbers; soft_weight is 1 by default."""
    given = {"temperature": T, "soft_weight": 1.0, **settings}
    made = objective(
        Outputs(torch.tensor(student)), Outputs(torch.tensor(teacher)), torch.tensor(labels), given
    )
    return {name: term.item() for name, term in made.items()}


def gradient(objective, student, teacher, **settings):
    student = torch.tensor(student, requires_grad=True)
    given = {"temperature": T, "soft_weight": 1.0, **settings}
    made = objective(Outputs(student), Outputs(torch.tensor(teacher)), torch.tensor(LABELS), given)
    return torch.autograd.grad(sum(made.values()), student)[0].numpy()


def softmax(logits, temperature=T):
    powers = np.exp(logits / temperature)
    return powers / powers.sum(-1, keepdims=True)


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def hintons(student, teacher, temperature=T):
    return temperature**2 * np.mean(
        [kl(p, q) for p, q in zip(softmax(teacher, temperature), softmax(student, temperature))]
    )


# -- squared error of logits ------------------------------------------------------------------


def test_mse_is_half_the_squared_distance_per_class():
    by_hand = np.mean([np.sum((s - t) ** 2) for s, t in zip(STUDENT, TEACHER)]) / 20
    assert terms(mse)["logits"] == pytest.approx(by_hand, rel=1e-12)
    assert terms(mse, soft_weight=0.25)["logits"] == pytest.approx(0.25 * by_hand, rel=1e-12)


def test_mse_is_the_high_temperature_limit_of_hintons_loss():
    student, teacher = STUDENT - STUDENT.mean(1, keepdims=True), TEACHER - TEACHER.mean(1, keepdims=True)
    assert hintons(student, teacher, 1e4) == pytest.approx(terms(mse, student, teacher)["logits"], rel=1e-2)
    hot = gradient(METHODS["hinton"].objective, student, teacher, temperature=1e4)
    np.testing.assert_allclose(gradient(mse, student, teacher), hot, rtol=1e-2, atol=1e-5)
    np.testing.assert_allclose(gradient(mse, student, teacher), (student - teacher) / 10 / 8, rtol=1e-12)


# -- decoupled -----------------------------------------------------------------------------------


def decoupled(student, teacher, label):
    """Return T^2 * KL of (target, rest) and within the rest for one image, as defined in the paper."""
    p, q = softmax(teacher), softmax(student)
    target = label if label >= 0 else int(np.argmax(teacher))
    rest = [k for k in range(10) if k != target]
    within = kl([p[k] / sum(p[rest]) for k in rest], [q[k] / sum(q[rest]) for k in rest])
    return T**2 * kl([p[target], 1 - p[target]], [q[target], 1 - q[target]]), T**2 * within, p[target]


def test_dkd_is_the_weighted_sum_of_two_divergences():
    parts = np.array([decoupled(*image) for image in zip(STUDENT, TEACHER, LABELS)])
    found = terms(dkd, target_weight=1.5, nontarget_weight=6.0)
    assert found["target"] == pytest.approx(1.5 * parts[:, 0].mean(), rel=1e-10)
    assert found["non-target"] == pytest.approx(6.0 * parts[:, 1].mean(), rel=1e-10)


@pytest.mark.parametrize("image", range(8))
def test_dkd_equals_hintons_loss_at_the_teachers_weight(image):
    student, teacher, label = STUDENT[[image]], TEACHER[[image]], LABELS[[image]]
    left = 1 - decoupled(student[0], teacher[0], label[0])[2]
    found = terms(dkd, student, teacher, label, target_weight=1.0, nontarget_weight=left)
    assert found["target"] + found["non-target"] == pytest.approx(hintons(student, teacher), rel=1e-10)


def test_dkd_nontarget_gradient_survives_a_confident_teacher():
    sure = TEACHER.copy()
    sure[range(8), np.where(LABELS < 0, 0, LABELS)] = 60.0
    weights = {"target_weight": 0.0, "nontarget_weight": 1.0}
    hinton_left = gradient(METHODS["hinton"].objective, STUDENT, sure)
    hinton_left[range(8), sure.argmax(1)] = 0
    assert np.abs(gradient(dkd, STUDENT, sure, **weights)).max() > 0.1
    others = gradient(dkd, STUDENT, sure + np.eye(10)[sure.argmax(1)] * 1000, **weights)
    np.testing.assert_allclose(others, gradient(dkd, STUDENT, sure, **weights), atol=1e-12)


# -- correlations -----------------------------------------------------------------------------------


def test_dist_is_one_minus_correlation_of_rows_and_columns():
    p, q = softmax(TEACHER), softmax(STUDENT)
    rows = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p, q)])
    columns = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p.T, q.T)])
    found = terms(dist, intra_weight=3.0)
    assert found["inter-class"] == pytest.approx(16 * rows, rel=1e-10)
    assert found["intra-class"] == pytest.approx(16 * 3 * columns, rel=1e-10)


@given(share=st.floats(0.05, 1.0))
def test_dist_ignores_linear_changes_of_probabilities(share):
    """Probabilities mixed with a uniform distribution correlate perfectly with the original ones."""
    mixed = T * np.log(share * softmax(TEACHER) + (1 - share) / 10)
    found = terms(dist, mixed, intra_weight=1.0)
    assert found["inter-class"] == pytest.approx(0, abs=1e-9) and found["intra-class"] == pytest.approx(
        0, abs=1e-9
    )
    assert share > 0.95 or hintons(mixed, TEACHER) > 1e-3


# -- standardized logits -----------------------------------------------------------------------------


def test_standardized_is_hintons_loss_on_z_scores():
    student, teacher = ((x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True) for x in (STUDENT, TEACHER))
    assert terms(standardized)["soft"] == pytest.approx(hintons(student, teacher), rel=1e-6)


@given(scale=st.floats(0.1, 50), shift=st.floats(-50, 50))
def test_standardized_logits_ignore_shift_and_scale(scale, shift):
    before = terms(standardized)["soft"]
    assert terms(standardized, scale * STUDENT + shift)["soft"] == pytest.approx(before, rel=1e-4)
    assert terms(standardized, STUDENT, scale * TEACHER + shift)["soft"] == pytest.approx(before, rel=1e-4)
    assert terms(standardized, scale * TEACHER + shift)["soft"] == pytest.approx(0, abs=1e-6)


# -- reverse KL and Jensen-Shannon ------------------------------------------------------------------


def test_reverse_kl_swaps_student_and_teacher():
    by_hand = T**2 * np.mean([kl(q, p) for p, q in zip(softmax(TEACHER), softmax(STUDENT))])
    assert terms(reverse_kl)["reverse KL"] == pytest.approx(by_hand, rel=1e-12)
    assert by_hand == pytest.approx(hintons(TEACHER, STUDENT), rel=1e-12)


def test_reverse_kl_penalizes_adding_more_than_leaving_out():
    """Leaving out one of two equally likely classes costs less than adding a third."""
    teacher, one, three = np.full((3, 1, 10), -30.0)
    teacher[:, :2], one[:, :1], three[:, :3] = 0, 0, 0
    cost = {
        name: terms(reverse_kl, said, teacher, LABELS[:1], temperature=1.0)["reverse KL"]
        for name, said in (("one", one), ("three", three))
    }
    assert cost["one"] == pytest.approx(math.log(2), rel=1e-6) and cost["three"] > 9
    assert hintons(one, teacher, 1.0) > 14 and hintons(three, teacher, 1.0) == pytest.approx(
        math.log(1.5), rel=1e-6
    )


@pytest.mark.parametrize("mix", [0.05, 0.5, 0.9])
def test_jsd_is_the_scaled_generalized_divergence(mix):
    by_hand = []
    for p, q in zip(softmax(TEACHER), softmax(STUDENT)):
        mixture = mix * p + (1 - mix) * q
        by_hand.append(mix * kl(p, mixture) + (1 - mix) * kl(q, mixture))
    assert terms(jsd, jsd_mix=mix)["divergence"] == pytest.approx(
        T**2 * np.mean(by_hand) / (mix * (1 - mix)), rel=1e-10
    )


def test_jsd_approaches_kl_and_reverse_kl_continuously():
    forward, reverse = hintons(STUDENT, TEACHER), terms(reverse_kl)["reverse KL"]
    assert terms(jsd, jsd_mix=0.0)["divergence"] == pytest.approx(forward, rel=1e-12)
    assert terms(jsd, jsd_mix=1.0)["divergence"] == pytest.approx(reverse, rel=1e-12)
    assert terms(jsd, jsd_mix=0.0011)["divergence"] == pytest.approx(forward, rel=0.05)
    assert terms(jsd, jsd_mix=0.9989)["divergence"] == pytest.approx(reverse, rel=0.05)


def test_jsd_is_symmetric_at_a_half_and_bounded():
    assert terms(jsd, jsd_mix=0.5)["divergence"] == pytest.approx(
        terms(jsd, TEACHER, STUDENT, jsd_mix=0.5)["divergence"], rel=1e-12
    )
    apart = terms(jsd, 1000 * np.eye(10)[:8], -1000 * np.eye(10)[:8], jsd_mix=0.5, temperature=1.0)[
        "divergence"
    ]
    assert 2 < apart <= 4 * math.log(2) + 1e-9


def test_gradients_agree_near_the_teacher_for_every_mix():
    near = TEACHER + 1e-4 * STUDENT
    wanted = gradient(METHODS["hinton"].objective, near, TEACHER)
    assert np.abs(wanted).max() > 1e-6
    for mix in (0.0, 0.01, 0.3, 0.5, 0.95, 1.0):
        np.testing.assert_allclose(gradient(jsd, near, TEACHER, jsd_mix=mix), wanted, rtol=2e-3, atol=1e-9)


def test_soft_targets_use_the_same_formula():
    assert soft_loss(torch.tensor(STUDENT), torch.tensor(TEACHER), T).item() == pytest.approx(
        hintons(STUDENT, TEACHER), rel=1e-12
    )
