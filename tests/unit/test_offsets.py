"""Offsets for classes that were left out, from class frequencies and from labels."""

import math

import pytest
import torch

from kd.metrics import class_offsets

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(400, 10, generator=GENERATOR) * 3
LABELS = torch.randint(0, 10, (400,), generator=GENERATOR)


@pytest.mark.parametrize("omitted", ["3", "07", "01234569"])
def test_offsets_make_mean_probability_equal_class_frequency(omitted):
    missing = [int(d) for d in omitted]
    logits = LOGITS.clone()
    logits[:, missing] -= 8  # a student that learned these classes never occur
    frequencies = torch.linspace(0.05, 0.15, 10)
    moved = class_offsets.by_frequency(logits, omitted, frequencies)
    mean = (logits.double() + moved).softmax(1).mean(0)
    assert mean[missing].tolist() == pytest.approx(frequencies[missing].tolist(), rel=1e-3)
    assert all(moved[d] == 0 for d in range(10) if d not in missing)


def test_offset_for_two_classes_equals_the_closed_form():
    """Every image has p(1) = 1/5; to be 1/2, class 1 must gain log 4."""
    logits = torch.tensor([[math.log(4.0), 0.0]]).repeat(7, 1)
    assert class_offsets.by_frequency(logits, "1", torch.tensor([0.5, 0.5])).tolist() == pytest.approx(
        [0.0, math.log(4)], abs=1e-3
    )


def test_offsets_are_zero_when_no_class_is_left_out():
    assert class_offsets.by_frequency(LOGITS, "", torch.full((10,), 0.1)).tolist() == [0.0] * 10


@pytest.mark.parametrize("omitted", ["3", "01234569"])
def test_no_other_common_offset_makes_fewer_errors(omitted):
    missing = [int(d) for d in omitted]
    chosen = class_offsets.by_labels(LOGITS, LABELS, omitted)

    def errors(offset):
        moved = LOGITS.double().clone()
        moved[:, missing] += offset
        return int((moved.argmax(1) != LABELS).sum())

    assert len({chosen[d].item() for d in missing}) == 1, "all missing classes must share one offset"
    assert errors(chosen[missing[0]]) == min(
        errors(o) for o in torch.linspace(-20, 20, 401, dtype=torch.float64)
    )
