"""Short trainings for the tests of the training loop."""

import torch
from torch import nn

from kd.models import registry
from kd.objectives import hinton, labels_only
from kd.training import loop
from kd.training.learner import Learner
from kd.training.loop import Plan, Training
from tests.helpers import small_teacher, weights

PLAN = Plan(epochs=2, batch_size=100, learning_rate=2e-3, seed=0)
SETTINGS = {"temperature": 4.0, "soft_weight": 0.9}


def pair(architecture="mlp-30", seed=0):
    return [
        Learner("student", registry.build(architecture, seed), hinton),
        Learner("control", registry.build(architecture, seed), labels_only),
    ]


def fit(learners, mnist, plan, settings, teacher=None, due=loop.every_epoch):
    """Yield the records of a whole training."""
    return Training(learners, mnist, plan, settings, teacher).records(due)


def always(step):
    return True


def run(mnist, learners=None, plan=PLAN, teacher=None, due=loop.every_epoch, between=lambda record: None):
    """Train to the end and return the weights by learner; ``between`` returns new settings or None."""
    learners = learners or pair()
    needs_teacher = any(learner.objective is not labels_only for learner in learners)
    training = Training(
        learners, mnist, plan, SETTINGS, (teacher or small_teacher()) if needs_teacher else None
    )
    for record in training.records(due):
        training.settings.update(between(record) or {})
    return {learner.name: weights(learner.model) for learner in learners}


def control_alone(architecture="mlp-30", seed=0):
    return [Learner("control", registry.build(architecture, seed), labels_only)]


class Spy(nn.Module):
    """A model that stores its training batches and the mode of each forward pass."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.batches, self.modes = [], []

    def forward(self, images):
        self.modes.append((torch.is_grad_enabled(), {module.training for module in self.modules()}))
        if torch.is_grad_enabled():
            self.batches.append(images.clone())
        return self.model(images)


class TeacherSpy:
    """A teacher that stores the digits of each call."""

    def __init__(self):
        self.teacher, self.asked = small_teacher(), []

    def logits(self, digits):
        self.asked.append(digits)
        return self.teacher.logits(digits)
