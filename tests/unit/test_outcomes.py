"""Outcomes of trainings as tensors of a checkpoint."""

import torch

from kd.experiments import outcomes

ENDED = [{"value": 10.0, "seed": 0.0, "test control": 0.75}, {"value": 0.0, "seed": 1.0, "test student": 0.9}]


def test_outcomes_survive_a_checkpoint_with_keys_missing():
    state = outcomes.to_tensors("point", ENDED)
    assert state["point.test control"].dtype == torch.float64
    assert state["point.test student"].isnan().tolist() == [True, False]
    assert outcomes.from_tensors("point", state) == ENDED


def test_outcomes_ignore_other_tensors_of_the_state():
    state = outcomes.to_tensors("outcome", ENDED) | {"outcomes": torch.zeros(3), "cell.0": torch.ones(2, 2)}
    assert outcomes.from_tensors("outcome", state) == ENDED
    assert outcomes.from_tensors("point", state) == []


def test_no_outcomes_make_no_tensors():
    assert outcomes.to_tensors("point", []) == {} and outcomes.from_tensors("point", {}) == []
