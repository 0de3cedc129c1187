"""The digit it never saw: recipe, recall, errors, and learning a digit from soft targets alone."""

import math

import plotly.graph_objects as go
import pytest
import torch

from kd.figures import lab
from kd.lab import never_saw

LABELS = torch.tensor([3, 3, 5, 5])
LOGITS = torch.zeros(4, 10)
LOGITS[[0, 1, 2, 3], [3, 5, 5, 5]] = 4.0
LOGITS[1, 3] = 3.0


def test_recall_is_the_accuracy_per_class():
    found = never_saw.recall(LOGITS, LABELS)
    assert found[3] == 0.5 and found[5] == 1 and math.isnan(found[0])


def test_manual_offset_moves_only_omitted_digits():
    assert never_saw.by_hand("37", 2.5).tolist() == [0, 0, 0, 2.5, 0, 0, 0, 2.5, 0, 0]
    assert never_saw.recall(LOGITS + never_saw.by_hand("3", 2.0), LABELS)[3] == 1


def test_errors_are_counted_in_all_and_on_omitted_digits():
    assert never_saw.errors(LOGITS, LABELS, "3") == (1, 1)
    assert never_saw.errors(LOGITS + never_saw.by_hand("5", -9), LABELS, "3") == (2, 0)


def test_recipe_keeps_the_number_of_steps():
    whole = never_saw.EPOCHS["mlp-128"] * 10
    for omitted in ("3", "01234569"):
        config = never_saw.recipe("mlp-128", omitted, 0)
        assert config.soft_weight == 1 and config.epochs * (10 - len(omitted)) == pytest.approx(
            whole, rel=0.06
        )


def test_recall_figure_marks_omitted_digits():
    recall = {role: never_saw.recall(LOGITS, LABELS).nan_to_num() for role in ("student", "control")}
    figure = go.Figure(lab.recall_bars(recall, recall, "37"))
    assert [(shape.x0, shape.x1) for shape in figure.layout.shapes] == [(2.5, 3.5), (6.5, 7.5)]
