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


def test_dist_of_one_image_has_no_correlation_over_images():
    one = [x[:1] for x in (STUDENT, TEACHER, LABELS)]
    found = terms(dist, *one, intra_weight=1.0)
    assert found["intra-class"] == 0
    # A batch of the same image many times has none either, so that its other terms are equal.
    many = terms(dist, *(np.repeat(x, 3, 0) for x in one), intra_weight=1.0)
    assert many == pytest.approx(found, rel=1e-12)


def test_dist_adds_nothing_where_the_teacher_is_constant():
    flat = np.zeros_like(TEACHER)
    assert set(terms(dist, STUDENT, flat, intra_weight=1.0).values()) == {0.0}
    assert terms(dist, flat, TEACHER, intra_weight=1.0)["inter-class"] == pytest.approx(16)
    never = TEACHER.copy()
    never[:, 4] = -1e5  # a class of probability 0 everywhere
    rest = [k for k in range(10) if k != 4]
    p, q = softmax(never), softmax(STUDENT)
    columns = sum(1 - np.corrcoef(p[:, k], q[:, k])[0, 1] for k in rest) / 10
    assert terms(dist, STUDENT, never, intra_weight=1.0)["intra-class"] == pytest.approx(16 * columns)


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


ENDS = [0.0, 1e-6, 0.0011, 0.002, 0.01, 0.05, 0.5, 0.9989, 1 - 1e-6, 1.0]


def exact_jsd(student, teacher, temperature, mix):
    """Return the divergence and its gradient by the student's logits, with long doubles."""
    student, teacher, mix = student.astype(np.longdouble), teacher.astype(np.longdouble), np.longdouble(mix)
    student, teacher = student / temperature, teacher / temperature
    q, p = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (student, teacher))
    mixture = mix * p + (1 - mix) * q
    parts = np.zeros_like(p)
    # The derivative of each class's part by q: of KL(p || mixture) / (1 - m) and of KL(q || mixture) / m.
    if mix < 1:
        parts += p * np.log(p / mixture) / (1 - mix)
        by_q = -p / mixture
    else:
        by_q = np.log(q / p) + 1
    if 0 < mix:
        parts += q * np.log(q / mixture) / mix
    if 0 < mix < 1:
        by_q = by_q + (np.log(q / mixture) + 1 - (1 - mix) * q / mixture) / mix
    scale = temperature**2 / len(student)
    gradient = q * (by_q - (q * by_q).sum(1, keepdims=True)) * scale / temperature
    return float(parts.sum() * scale), gradient.astype(float)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
@pytest.mark.parametrize("mix", ENDS)
def test_jsd_is_accurate_in_float32_near_the_teacher(mix, temperature):
    random = np.random.default_rng(2)
    for distance in (0.02, 0.002):
        for count in (1, 16):
            teacher = random.normal(0, 4, (count, 10)).astype(np.float32)
            student = teacher + random.uniform(-distance, distance, (count, 10)).astype(np.float32)
            value, slope = exact_jsd(student, teacher, temperature, mix)
            given = {"temperature": temperature, "soft_weight": 1.0, "jsd_mix": mix}
            leaf = torch.tensor(student, requires_grad=True)
            labels = torch.zeros(count, dtype=torch.int64)
            term = jsd(Outputs(leaf), Outputs(torch.tensor(teacher)), labels, given)["divergence"]
            assert term.item() == pytest.approx(value, rel=0.01) and value > 0
            found = torch.autograd.grad(term, leaf)[0].numpy()
            np.testing.assert_allclose(found, slope, rtol=0.01, atol=1e-3 * np.abs(slope).max())


@pytest.mark.parametrize("mix", ENDS)
def test_jsd_is_finite_for_logits_in_the_thousands(mix):
    student, teacher = 3000 * np.eye(10)[:8], 3000 * np.eye(10)[2:]
    found = terms(jsd, student, teacher, jsd_mix=mix, temperature=1.0)["divergence"]
    bound = sum(math.log(1 / share) / (1 - share) for share in (mix, 1 - mix)) if 0 < mix < 1 else 3000
    assert found == pytest.approx(bound, rel=1e-6)
    assert np.isfinite(gradient(jsd, student, teacher, jsd_mix=mix, temperature=1.0)).all()


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
