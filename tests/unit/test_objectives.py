"""Hinton's loss, compared with its formula and with manually computed values."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kd.objectives import Outputs, hinton, labels_only, soft_loss
from kd.objectives.gradients import output_gradients
from kd.objectives.stacked import StackedLosses

TEMPERATURES = [1.0, 2.5, 4.0, 20.0]


@pytest.fixture
def batch():
    """Return student logits, teacher logits and labels of 12 images, in double precision."""
    random = np.random.default_rng(3)
    student, teacher = random.normal(0, 2, (12, 10)), random.normal(0, 4, (12, 10))
    return torch.tensor(student), torch.tensor(teacher), torch.tensor(random.integers(0, 10, 12))


def written_out(student, teacher, temperature):
    """Return T^2 * KL(teacher_T || student_T) with plain Python sums."""

    def softmax(row):
        powers = [math.exp(float(value) / temperature) for value in row]
        return [power / sum(powers) for power in powers]

    total = 0.0
    for said, taught in zip(student, teacher):
        total += sum(p * (math.log(p) - math.log(q)) for p, q in zip(softmax(taught), softmax(said)))
    return temperature**2 * total / len(student)


def gradient(student, teacher, temperature):
    student = student.clone().requires_grad_()
    soft_loss(student, teacher, temperature).backward()
    return student.grad


def settings(temperature=4.0, soft_weight=0.9):
    return {"temperature": temperature, "soft_weight": soft_weight}


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_soft_loss_equals_its_formula(batch, temperature):
    student, teacher, _ = batch
    assert soft_loss(student, teacher, temperature).item() == pytest.approx(
        written_out(student, teacher, temperature), rel=1e-12
    )


def test_soft_loss_equals_a_manually_computed_value():
    # At T = 2 the first teacher gives (3/4, 1/4) and the student (1/2, 1/2); the second pair agrees.
    teacher = torch.tensor([[2 * math.log(3), 0.0], [5.0, 1.0]], dtype=torch.float64)
    student = torch.tensor([[1.0, 1.0], [5.0, 1.0]], dtype=torch.float64)
    by_hand = 4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5)) / 2
    assert by_hand == pytest.approx(0.2616, abs=1e-4)
    assert soft_loss(student, teacher, 2.0).item() == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_soft_loss_has_its_closed_form_gradient(batch, temperature):
    student, teacher, _ = batch
    closed = (
        temperature
        * (F.softmax(student / temperature, 1) - F.softmax(teacher / temperature, 1))
        / len(student)
    )
    torch.testing.assert_close(gradient(student, teacher, temperature), closed, rtol=1e-10, atol=1e-14)


def test_at_high_temperature_soft_loss_matches_centred_logits(batch):
    student, teacher, _ = batch
    difference = (student - student.mean(1, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
    torch.testing.assert_close(
        gradient(student, teacher, 1e5), difference / (10 * len(student)), rtol=1e-3, atol=1e-6
    )


def test_gradient_keeps_its_size_at_higher_temperatures(batch):
    student, teacher, _ = batch
    norms = {t: gradient(student, teacher, t).norm().item() for t in (4.0, 8.0, 12.0, 20.0)}
    assert max(norms.values()) / min(norms.values()) < 1.5
    without_factor = [norm / t**2 for t, norm in norms.items()]
    assert max(without_factor) / min(without_factor) > 10


def test_soft_loss_is_zero_where_student_and_teacher_agree(batch):
    _, teacher, _ = batch
    assert soft_loss(teacher, teacher, 4.0).item() == pytest.approx(0, abs=1e-12)
    assert soft_loss(teacher + 100.0, teacher, 4.0).item() == pytest.approx(
        0, abs=1e-12
    )  # softmax depends only on differences


def test_soft_loss_is_non_negative_and_finite_at_extreme_logits():
    random = torch.Generator().manual_seed(0)
    for scale in (1e-3, 1.0, 100.0, 1e4):
        student, teacher = scale * torch.randn(2, 50, 10, generator=random)
        loss = soft_loss(student, teacher, 1.0)
        assert loss.isfinite() and loss >= 0


def test_soft_loss_does_not_depend_on_the_size_of_the_batch(batch):
    student, teacher, _ = batch
    twice = soft_loss(student.repeat(2, 1), teacher.repeat(2, 1), 4.0)
    assert twice.item() == pytest.approx(soft_loss(student, teacher, 4.0).item(), rel=1e-12)


def test_soft_loss_does_not_divide_by_the_number_of_classes():
    # Classes with probability 0 for both add nothing.
    student, teacher = torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]])
    never = torch.full((1, 8), -1e4)
    more = soft_loss(torch.cat([student, never], 1), torch.cat([teacher, never], 1), 1.0)
    assert more.item() == pytest.approx(soft_loss(student, teacher, 1.0).item(), rel=1e-6)


def test_teacher_and_student_are_not_swapped():
    sure, unsure = torch.tensor([[8.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    # Ruling out a class that the teacher finds possible costs more than the reverse.
    assert soft_loss(student_logits=sure, teacher_logits=unsure, temperature=1.0).item() == pytest.approx(
        3.307, abs=1e-3
    )
    assert soft_loss(student_logits=unsure, teacher_logits=sure, temperature=1.0).item() == pytest.approx(
        0.690, abs=1e-3
    )


def test_autograd_agrees_with_finite_differences(batch):
    student, teacher, labels = batch
    student = student.requires_grad_()

    def total(logits):
        return sum(hinton(Outputs(logits), Outputs(teacher), labels, settings(3.0, 0.6)).values())

    assert torch.autograd.gradcheck(lambda logits: soft_loss(logits, teacher, 3.0), student)
    assert torch.autograd.gradcheck(total, student)


@pytest.mark.parametrize("soft_weight", [0.0, 0.3, 0.9, 1.0])
def test_hintons_terms_sum_to_the_documented_loss(batch, soft_weight):
    student, teacher, labels = batch
    terms = hinton(Outputs(student), Outputs(teacher), labels, settings(4.0, soft_weight))
    log_shares = student - student.exp().sum(1, keepdim=True).log()
    hard = -sum(log_shares[i, label].item() for i, label in enumerate(labels)) / len(labels)
    assert set(terms) == {"soft", "hard"}
    assert terms["soft"].item() == pytest.approx(
        soft_weight * written_out(student, teacher, 4.0), rel=1e-12, abs=1e-15
    )
    assert terms["hard"].item() == pytest.approx((1 - soft_weight) * hard, rel=1e-12, abs=1e-15)


def test_soft_weight_0_learns_only_from_labels(batch):
    student, teacher, labels = batch
    student = student.requires_grad_()
    terms = hinton(Outputs(student), Outputs(teacher), labels, settings(soft_weight=0.0))
    alone = labels_only(Outputs(student), None, labels, {})
    (with_teacher,) = torch.autograd.grad(sum(terms.values()), student)
    (without,) = torch.autograd.grad(sum(alone.values()), student)
    assert terms["soft"].item() == 0
    torch.testing.assert_close(with_teacher, without, rtol=1e-12, atol=0)


def test_soft_weight_1_ignores_the_labels(batch):
    student, teacher, labels = batch
    one = hinton(Outputs(student), Outputs(teacher), labels, settings(soft_weight=1.0))
    other = hinton(Outputs(student), Outputs(teacher), (labels + 1) % 10, settings(soft_weight=1.0))
    assert one["hard"].item() == other["hard"].item() == 0
    assert sum(one.values()).item() == pytest.approx(soft_loss(student, teacher, 4.0).item(), rel=1e-12)


def test_labels_only_is_the_mean_cross_entropy(batch):
    student, _, labels = batch
    terms = labels_only(Outputs(student), None, labels, {})
    assert list(terms) == ["hard"]
    by_hand = -(F.softmax(student, 1)[range(len(labels)), labels]).log().mean()
    assert terms["hard"].item() == pytest.approx(by_hand.item(), rel=1e-12)


@pytest.mark.parametrize("objective", [hinton, labels_only])
def test_analytic_gradients_are_finite_without_labels(batch, objective):
    student, teacher, _ = batch
    none = torch.full((len(student),), -1)
    for soft_weight in (0.9, 1.0):
        terms, by_outputs, _ = output_gradients(
            objective, Outputs(student), Outputs(teacher), none, settings(4.0, soft_weight)
        )
        assert terms["hard"] == 0
        soft = soft_weight * gradient(student, teacher, 4.0) if objective is hinton else 0 * student
        torch.testing.assert_close(by_outputs.logits, soft, rtol=1e-12, atol=1e-15)


def test_stacked_gradients_are_finite_without_labels(batch):
    student, teacher = (logits.float() for logits in batch[:2])
    losses = StackedLosses([hinton, labels_only], [settings()] * 2, torch.device("cpu"))
    none = torch.full((len(student),), -1)
    found = losses.gradient(torch.stack([student.t()] * 2), teacher, none)
    torch.testing.assert_close(found[0].t(), 0.9 * gradient(student, teacher, 4.0), rtol=1e-4, atol=1e-6)
    assert not found[1].any()
