"""Classic mistakes: what each does and costs, and that the ordinary training has none of them."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from kd.config.distil import DistilConfig
from kd.config.mistake import MistakeConfig
from kd.errors import UserError
from kd.experiments.distil import Distillation
from kd.experiments.mistake import MistakeExperiment, gradient_ratio
from kd.models import inference, registry
from kd.objectives import METHODS, hinton, soft_loss
from kd.objectives.mistakes import MISTAKES
from kd.randomness import generator
from kd.teachers.cached import CachedTeacher, weights_digest
from kd.teachers.catalogue import load
from tests.helpers import identical, small_teacher, weights

T = 5.0


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


@pytest.fixture
def logits():
    draw = torch.Generator().manual_seed(3)
    return torch.randn(7, 10, generator=draw, dtype=torch.float64) * 4, torch.randn(
        7, 10, generator=draw, dtype=torch.float64
    ) * 6


#: The formula of each mistaken loss in NumPy. p, q: probabilities of teacher and student at T.
FORMULAS = {
    "no-t2": lambda p, q: (p * np.log(p / q)).sum() / len(p),
    "mean": lambda p, q: T**2 * (p * np.log(p / q)).mean(),
    "train-mode": lambda p, q: T**2 * (p * np.log(p / q)).sum() / len(p),
    "position": lambda p, q: T**2 * (p * np.log(p / q)).sum() / len(p),
    "softmax": lambda p, q: T**2 * (p * (np.log(p) - q)).sum() / len(p),
    "swapped": lambda p, q: T**2 * (q * np.log(q / p)).sum() / len(p),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistaken_loss_matches_its_formula(name, logits):
    student, teacher = logits
    expected = FORMULAS[name](softmax(teacher.numpy() / T), softmax(student.numpy() / T))
    assert MISTAKES[name].loss(student, teacher, T).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("name", "expected"), [("no-t2", 1 / T**2), ("mean", 0.1), ("train-mode", 1.0), ("position", 1.0)]
)
def test_gradient_ratio_matches_theory(name, expected, logits):
    student, teacher = logits
    assert gradient_ratio(MISTAKES[name], student, teacher, teacher, T).item() == pytest.approx(
        expected, rel=1e-9
    )


def test_gradient_ratio_matches_the_analytic_gradients(logits):
    """With swapped arguments the gradient with respect to logit i is q_i (log(q_i / p_i) - KL(q || p)) / T.

    The correct one is (q_i - p_i) / T.
    """
    student, teacher = logits
    p, q = softmax(teacher.numpy() / T), softmax(student.numpy() / T)
    kl = (q * np.log(q / p)).sum(1, keepdims=True)
    expected = np.linalg.norm(q * (np.log(q / p) - kl)) / np.linalg.norm(q - p)
    assert gradient_ratio(MISTAKES["swapped"], student, teacher, teacher, T).item() == pytest.approx(
        expected, rel=1e-9
    )


# -- the experiment ------------------------------------------------------------------------


@pytest.mark.parametrize("name", MISTAKES)
def test_only_one_of_the_three_networks_has_the_mistake(name, mnist):
    """Student and control equal those of a distillation without a mistake, except for rounding."""
    config = MistakeConfig(mistake=name, student="mlp-8", epochs=2, temperature=4, soft_weight=0.9, labels=0)
    broken = MistakeExperiment(config, mnist, small_teacher("mlp-32"))
    records = list(broken.records())
    usual = Distillation(
        DistilConfig(student="mlp-8", epochs=2, temperature=4, soft_weight=0.9),
        mnist,
        small_teacher("mlp-32"),
    )
    list(usual.records())
    for role in ("student", "control"):
        for ours, theirs in zip(broken.trained[role].parameters(), usual.trained[role].parameters()):
            assert torch.allclose(ours, theirs, atol=1e-4)
    if name != "train-mode":  # an MLP has no dropout or batch norm
        assert not identical(weights(broken.trained["mistaken"]), weights(broken.trained["student"]))
    assert all(record.fidelity["gradient ratio"] > 0 for record in records)
    assert set(broken.measures(records[-1])["models"]) == {"student", "mistaken", "control", "teacher"}


def test_train_mode_mistake_adds_noise_to_a_copy(sample):
    teacher = load("cnn")
    before, digits = weights_digest(teacher.model), sample.train.take(slice(0, 256))
    answers = MISTAKES["train-mode"].answers(teacher.model, len(sample.train), 128)
    first, second = answers(digits), answers(digits)
    assert not torch.allclose(first, second, atol=0.1) and not torch.allclose(
        first, teacher.logits(digits), atol=0.1
    )
    assert weights_digest(teacher.model) == before and not teacher.model.training


def test_position_mistake_repeats_the_first_epochs_logits(mnist):
    teacher = small_teacher("mlp-32")
    images = len(mnist.train)
    answers = MISTAKES["position"].answers(teacher.model, images, 128)
    first, second = (torch.randperm(images, generator=torch.Generator().manual_seed(i)) for i in range(2))
    right = torch.cat([answers(mnist.train.take(part)) for part in first.split(96)])
    assert torch.allclose(right, teacher.logits(mnist.train.take(first)), atol=1e-5)
    for _ in range(2):
        wrong = torch.cat([answers(mnist.train.take(part)) for part in second.split(96)])
        assert torch.equal(wrong, right)


@pytest.mark.parametrize(("name", "cost"), [("no-t2", 0.01), ("position", 0.2), ("softmax", 0.02)])
def test_mistakes_cost_accuracy_with_few_labels(name, cost, sample):
    """Mean over two seeds. The other mistakes cost too little here to differ from chance."""
    lost = []
    for number in range(2):
        *_, last = MistakeExperiment(
            MistakeConfig(mistake=name, epochs=12, seed=number), sample, load("cnn")
        ).records()
        lost.append(last.validation_accuracy["student"] - last.validation_accuracy["mistaken"])
    assert sum(lost) / 2 > cost, lost


# -- the ordinary training has none of them -----------------------------------------------------


def test_correct_gradient_does_not_shrink_with_temperature(logits):
    student, teacher = (z * 0.01 for z in logits)  # where the limit of high temperatures holds

    def gradient(temperature):
        z = student.clone().requires_grad_()
        return torch.autograd.grad(soft_loss(z, teacher, temperature), z)[0]

    assert gradient(1.0).norm().item() == pytest.approx(gradient(20.0).norm().item(), rel=0.02)
    centred = [z - z.mean(1, keepdim=True) for z in (student, teacher)]
    assert torch.allclose(
        gradient(20.0), (centred[0] - centred[1]) / 10 / len(student), rtol=0.02, atol=1e-5
    )  # the paper's equation 4


def test_students_hear_their_own_images_from_a_teacher_in_eval(mnist, monkeypatch):
    reference = CachedTeacher("t", "mlp-32", registry.build("mlp-32", 7).train())
    heard = []

    def listen(student, teacher, labels, settings):
        heard.append((teacher.logits.clone(), labels.clone()))
        return hinton(student, teacher, labels, settings)

    monkeypatch.setitem(METHODS, "hinton", dataclasses.replace(METHODS["hinton"], objective=listen))
    before = weights_digest(reference.model)
    list(Distillation(DistilConfig(student="mlp-8", epochs=3, batch_size=50), mnist, reference).records())
    assert not reference.model.training and weights_digest(reference.model) == before
    answers = inference.logits_in_chunks(reference.model, mnist.train.inputs())
    order = [torch.randperm(len(mnist.train), generator=generator(0, "order", epoch)) for epoch in range(3)]
    assert torch.allclose(torch.cat([logits for logits, _ in heard]), answers[torch.cat(order)], atol=1e-5)
    assert torch.equal(torch.cat([labels for _, labels in heard]), mnist.train.labels[torch.cat(order)])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mistake": "none"}, "Mistake must be one of no-t2, mean"),
        ({"temperature": 0}, "Temperature must be between"),
    ],
)
def test_invalid_mistake_settings_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        MistakeConfig(**settings)


def test_softmax_mistake_gives_negative_losses():
    """A KL divergence is never negative, so the sign reveals the mistake."""
    teacher = torch.zeros(1, 10)
    assert MISTAKES["softmax"].loss(torch.zeros(1, 10), teacher, 1.0).item() == pytest.approx(
        math.log(0.1) - 0.1
    )
    assert soft_loss(torch.zeros(1, 10), teacher, 1.0).item() == 0
