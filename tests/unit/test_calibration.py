"""Calibration and fidelity: manually computed values, and measurement during training."""

import math

import plotly.graph_objects as go
import pytest
import torch

from kd.figures import lab
from kd.metrics import classification
from kd.models import inference, registry
from kd.objectives import hinton, labels_only
from kd.training.loop import Learner, Plan, Training
from tests.helpers import small_teacher


def sure(share: float) -> list[float]:
    """Return logits of two classes in which the first has the given probability."""
    return [math.log(share), math.log(1 - share)]


#: Twice 90% sure and once right, four times 65% sure and three times right.
LOGITS = torch.tensor([sure(0.9)] * 2 + [sure(0.65)] * 4)
LABELS = torch.tensor([0, 1, 0, 0, 0, 1])


def test_reliability_groups_images_by_confidence():
    groups = classification.reliability(LOGITS, LABELS, bins=10)
    assert groups[9].tolist() == pytest.approx([2, 0.9, 0.5]) and groups[6].tolist() == pytest.approx(
        [4, 0.65, 0.75]
    )
    assert groups[:, 0].sum() == 6 and groups[3, 0] == 0 and groups[3, 1:].isnan().all()


def test_ece_is_the_mean_gap_between_confidence_and_accuracy():
    assert classification.ece(LOGITS, LABELS, bins=10) == pytest.approx((2 * 0.4 + 4 * 0.1) / 6)
    assert classification.ece(torch.tensor([[99.0, 0.0]]), torch.tensor([0])) == 0


def test_teacher_agrees_with_itself_entirely():
    found = classification.fidelity(LOGITS, LOGITS)
    assert found["agreement"] == 1 and found["kl"] == pytest.approx(0, abs=1e-7)
    assert classification.fidelity(-LOGITS, LOGITS)["agreement"] == 0


def test_records_hold_fidelity_and_calibration_of_each_learner(mnist):
    teacher = small_teacher()
    learners = [
        Learner("student", registry.build("linear", 0), hinton),
        Learner("control", registry.build("linear", 0), labels_only),
    ]
    training = Training(
        learners, mnist, Plan(2, 128, 0.01, 0), {"temperature": 4.0, "soft_weight": 1.0}, teacher
    )
    record = list(training.records())[-1]
    said = inference.logits_in_chunks(learners[0].model, mnist.validation.inputs(), 512)
    wanted = classification.fidelity(said, teacher.logits(mnist.validation)) | {
        "ece": classification.ece(said, mnist.validation.labels)
    }
    row = record.row()
    assert {name: row[f"{name} student"] for name in wanted} == pytest.approx(wanted)
    assert row["agreement student"] > row["agreement control"]  # the student is trained to agree
    assert row["kl student"] < row["kl control"]


def test_training_without_a_teacher_measures_only_calibration(mnist):
    training = Training(
        [Learner("control", registry.build("linear", 0), labels_only)], mnist, Plan(1, 128, 0.01, 0), {}
    )
    assert set(next(training.records()).fidelity) == {"ece control"}


def test_plotly_accepts_the_figures():
    rows = [
        {"step": 1, "epoch": 0.1, "kl student": 2.0, "kl control": 3.0},
        {"step": 2, "epoch": 0.2, "kl student": 1.0},
    ]
    figure = go.Figure(lab.fidelity(rows, 1, "kl", "KL", False))
    assert list(figure.data[0].y) == [2.0, 1.0]
    figure = go.Figure(lab.reliability({"student": classification.reliability(LOGITS, LABELS, bins=10)}))
    assert list(figure.data[1].x) == pytest.approx([0.65, 0.9])  # empty groups are left out
