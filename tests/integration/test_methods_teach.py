"""Train one real run of every method with the shipped teacher on 2,000 images, and check its benefit."""

import dataclasses

import pytest
import torch.nn.functional as F

from kd.config.distil import DistilConfig
from kd.experiments.distil import Distillation
from kd.models import inference
from kd.objectives import METHODS
from kd.teachers import catalogue

ANSWERS = [method.name for method in METHODS.values() if method.teacher and not method.feature_view]
HIDDEN = [method.name for method in METHODS.values() if method.feature_view]
#: Method -> settings for which the usual ones do not suit it. Hints get a student of two hidden layers, so
#: that middle and last differ.
SPECIAL = {
    "fitnets": {"student": "mlp-256-64"},
    "attention": {"student": "cnn-tiny", "epochs": 5},
    "cosine": {"feature_weight": 5.0},
}
WITHOUT_TEACHER = [method.name for method in METHODS.values() if not method.teacher]


@pytest.fixture(scope="module")
def few(sample):
    return dataclasses.replace(sample, train=sample.train.take(slice(None, None, 2)))


@pytest.fixture(scope="module")
def cnn():
    return catalogue.load("cnn")


def learned(mnist, cnn, **settings):
    """Return the finished experiment and the accuracies of student and control on 1,000 held-out images."""
    experiment = Distillation(DistilConfig(seed=1, **settings), mnist, cnn)
    *_, last = experiment.records()
    return experiment, last.validation_accuracy["student"], last.validation_accuracy["control"]


def surprise(model, digits):
    """Return the mean negative log-likelihood of the labels: high for overconfident errors."""
    return F.cross_entropy(inference.logits_in_chunks(model, digits.inputs(), 512), digits.labels).item()


def test_every_method_is_tested_here():
    assert sorted([*ANSWERS, *HIDDEN, *WITHOUT_TEACHER]) == sorted(METHODS)
    assert set(SPECIAL) <= set(HIDDEN), "settings of a method that is gone"


@pytest.mark.parametrize("method", ANSWERS)
def test_soft_targets_beat_the_control_with_100_labels(few, cnn, method):
    _, student, control = learned(few, cnn, method=method, student="mlp-128", labels=100)
    assert student > control + 0.05


@pytest.mark.parametrize("method", HIDDEN)
def test_hidden_layers_alone_beat_the_control_with_100_labels(few, cnn, method):
    """Without soft targets, the unlabelled images teach only through hidden layers."""
    given = {"student": "mlp-128", "epochs": 8, "feature_weight": 3.0} | SPECIAL.get(method, {})
    _, student, control = learned(few, cnn, method=method, labels=100, soft_weight=0.0, **given)
    assert student > control + 0.015


@pytest.mark.parametrize("method", WITHOUT_TEACHER)
def test_regularized_student_is_less_overconfident_than_control(few, cnn, method):
    """Regularization promises no more: it gives no targets for unlabelled images."""
    experiment, _, _ = learned(few, cnn, method=method, student="mlp-128", labels=100)
    ours, theirs = (surprise(experiment.trained[who], few.validation) for who in ("student", "control"))
    assert ours < 0.85 * theirs
