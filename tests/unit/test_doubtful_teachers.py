"""A teacher from which nothing useful can be learned is named, with the reason."""

import pytest
import torch
from safetensors.torch import save

from kd.export import importing
from kd.models import registry
from kd.teachers import catalogue, doubts
from kd.teachers.averaged import MeanTeacher
from kd.teachers.cached import CachedTeacher
from tests.helpers import small_teacher

CHANGES = {
    "good": (lambda last: None, ""),
    "constant": (lambda last: last.weight.zero_(), "gives the same answer for every image"),
    "large": (lambda last: last.weight.mul_(1e5), "are very large"),
    "overflowing": (lambda last: last.weight.fill_(3e38), "are not finite"),
}


def network(change):
    model = registry.build("mlp-30", 1)
    with torch.no_grad():
        CHANGES[change][0](model[-1])
    return model


@pytest.mark.parametrize("change", CHANGES)
def test_useless_teacher_is_named_with_the_reason(digits, change):
    found = doubts.of(CachedTeacher("my-teacher", "mlp-30", network(change)), digits, str.upper)
    reason = CHANGES[change][1]
    assert (reason in found and "MY-TEACHER" in found) if reason else found == ""


@pytest.mark.parametrize("name", catalogue.shipped())
def test_shipped_teachers_are_beyond_doubt(mnist, name):
    assert doubts.of(catalogue.load(name), mnist.glance) == ""
    assert doubts.of(None, mnist.glance) == ""


def test_logits_equal_up_to_a_shift_are_constant():
    shifts = torch.arange(100.0).unsqueeze(1)
    assert "same answer" in doubts.about(shifts + torch.arange(10.0), "mine")


def test_each_of_several_teachers_is_judged(digits):
    pair = [small_teacher(), CachedTeacher("flat", "mlp-30", network("constant"))]
    found = doubts.of(MeanTeacher("small+flat", pair), digits)
    assert "The teacher flat gives the same answer" in found and "small" not in found


@pytest.mark.parametrize("change", ["good", "constant", "large"])
def test_imported_useless_teacher_is_named(home, mnist, change):
    state = {key: value.contiguous() for key, value in network(change).state_dict().items()}
    run = importing.store(save(state), "teacher", "from elsewhere", mnist, small_teacher("mlp-32"), None)
    reason = CHANGES[change][1]
    assert (reason in run.message and "from elsewhere" in run.message) if reason else run.message == ""
    student = importing.store(save(state), "student", "a student", mnist, small_teacher("mlp-32"), None)
    assert student.message == ""
