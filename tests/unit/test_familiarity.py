"""Test which drawings count as digits."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kd.data.digits import Mnist
from kd.drawing import familiarity
from kd.models import registry
from kd.teachers.cached import CachedTeacher
from tests.drawings import drawn, inputs
from tests.strokes import DIGITS, LETTERS, SCRIBBLES, Stroke


@pytest.fixture(scope="module")
def familiar(sample: Mnist, shipped: CachedTeacher) -> familiarity.Familiar:
    return familiarity.Familiar(shipped.model, sample.train.take(slice(None, None, 2)))


def test_nearly_all_real_digits_are_familiar(sample: Mnist, familiar: familiarity.Familiar):
    assert familiar.knows(sample.validation.inputs()).float().mean() >= 0.98


@pytest.mark.parametrize("width", [12, 20, 28])
def test_drawn_digits_are_familiar(familiar: familiarity.Familiar, width: int):
    assert familiar.knows(inputs([drawn(strokes, width) for strokes in DIGITS.values()])).all()


@pytest.mark.parametrize("width", [12, 20, 28])
@pytest.mark.parametrize("drawings", [LETTERS, SCRIBBLES], ids=["letters", "scribbles"])
def test_most_letters_and_scribbles_are_unfamiliar(
    familiar: familiarity.Familiar, drawings: dict[str, list[Stroke]], width: int
):
    known = familiar.knows(inputs([drawn(strokes, width) for strokes in drawings.values()]))
    assert known.float().mean() <= 0.3, [name for name, is_known in zip(drawings, known) if is_known]


def test_familiarity_leaves_the_teacher_in_eval_mode(sample: Mnist, shipped: CachedTeacher):
    familiarity.Familiar(shipped.model, sample.validation)
    assert not any(layer.training for layer in shipped.model.modules())


@pytest.mark.parametrize("name", ["linear", "mlp-30", "cnn-tiny", "cnn-separable", "vit-half"])
def test_familiarity_works_for_any_architecture(sample: Mnist, name: str):
    familiar = familiarity.Familiar(
        registry.build(name, 0).eval(), sample.train.take(slice(None, None, 4)), share=0.1
    )
    assert 0.8 < familiar.knows(sample.validation.inputs()).float().mean() < 1


class Branches(nn.Module):
    """Not a Sequential; its convolution does not come right before its last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.hidden, self.last = nn.Conv2d(1, 4, 7, 7), nn.Linear(64, 32), nn.Linear(32, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.last(self.hidden(self.convolution(images).flatten(1)).relu())


@pytest.mark.parametrize("name", ["cnn-tiny", "cnn-separable", "mlp-30", "vit-half", None])
def test_features_are_the_last_layers_averaged_inputs(sample: Mnist, name: str | None):
    model = registry.build(name, 0).eval() if name else Branches().eval()
    images = sample.validation.take(slice(0, 100)).inputs()
    last = [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1]
    seen: list[torch.Tensor] = []
    last.register_forward_hook(lambda layer, inputs, output: seen.append(inputs[0]))
    with torch.inference_mode():
        model(images)
    wanted = seen[0].view(100, 32, -1).mean(2) if name == "cnn-tiny" else seen[0]
    familiar = familiarity.Familiar(model, sample.validation.take(slice(0, 200)))
    torch.testing.assert_close(familiar._features(images), wanted, rtol=1e-3, atol=1e-4)


def test_familiarity_does_not_change_the_network(sample: Mnist):
    model = registry.build("vit-half", 0).eval()
    familiarity.Familiar(model, sample.validation.take(slice(0, 200)))
    assert isinstance(model[-1], nn.Linear) and model(torch.zeros(1, 1, 28, 28)).shape == (1, 10)
