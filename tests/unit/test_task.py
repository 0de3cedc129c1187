"""The task, and that nothing else repeats its numbers."""

import dataclasses
import io
import re
import tokenize
from pathlib import Path

import pytest
import torch

import kd
from kd.data.digits import normalize
from kd.data.task import MNIST, Task
from kd.metrics.size import network_size
from kd.models import diagrams, registry

COLOURS = Task(
    name="colours",
    image_shape=(3, 32, 24),
    class_names=("red", "green", "blue"),
    mean=(0.5, 0.4, 0.3),
    std=(0.2, 0.2, 0.2),
    teacher="cnn-tiny",
)

ROOT = Path(kd.__file__).parents[1]
#: Numbers that are MNIST's, as they are written in code, and expressions that can only mean its ten digits.
NUMBERS = {28, 784, 55_000, 60_000, 10_000, 9_999, 0.1307, 0.3081}
EXPRESSIONS = re.compile(
    r"0123456789(?![a-f])|range\(10\)|log2\(10\)|\] \* 10\b|zeros\([^()]*\b10\)|[lL]abels < 10\b|== 9\b"
)
#: Where they may stand, and why.
ALLOWED = {
    "kd/data/task.py": "the task itself",
    "kd/drawing/preprocess.py": "a file that users take away; it imports nothing of ours",
    "kd/experiments/study.py": "BUDGETS, numbers of labels to try",
    "kd/figures/sweep.py": "ticks of an axis",
    "kd/figures/lab/accuracy.py": "ticks of an axis",
    "kd/ui/lab/label_budget.py": "the budget that the paper's curve ends with",
}


def literals(source: str) -> list[str]:
    """Return the tokens and lines of Python code in which MNIST's numbers are written out."""
    found, lines = [], source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NUMBER and not re.fullmatch(r"0[xob].*|.*j", token.string.lower()):
            if float(token.string.replace("_", "")) in NUMBERS:
                found.append(f"{token.start[0]}: {token.string}")
    code = [line for line in lines if not line.lstrip().startswith(("#", '"""'))]
    return found + [line.strip() for line in code if EXPRESSIONS.search(line.split("  # ")[0])]


@pytest.mark.parametrize(
    "line",
    [
        "images = torch.zeros(4, 1, 28, 28)",
        "inputs = nn.Linear(784, 30)",
        "rows = {'train': 60000, 'test': 10_000}",
        "pixels = (pixels - 0.1307) / 0.3081",
        'names = tuple("0123456789")',
        "names = [str(digit) for digit in range(10)]",
        "offsets = torch.zeros(10)",
        "if 0 < self.labels < 10:",
    ],
)
def test_a_line_with_mnist_numbers_is_found(line):
    assert literals(line + "\n")


def test_other_numbers_are_not_found():
    assert not literals(
        "text = '28x28'  # (N, 28, 28)\nside, count = 280, 1_000\nwidths = torch.zeros(10, 3)\n"
    )


def test_only_the_task_holds_mnist_numbers():
    paths = [*ROOT.glob("kd/**/*.py"), *ROOT.glob("pages/*.py")]
    assert len(paths) > 100
    names = {path: path.relative_to(ROOT).as_posix() for path in paths}
    found = {names[path]: literals(path.read_text()) for path in paths}
    assert not {name: lines for name, lines in found.items() if lines and name not in ALLOWED}
    assert set(ALLOWED) == {name for name in ALLOWED if found[name]}, "remove what is needed no more"


def test_task_derives_its_sizes():
    assert (COLOURS.channels, COLOURS.height, COLOURS.width) == (3, 32, 24)
    assert COLOURS.values == 3 * 32 * 24 and COLOURS.classes == 3
    assert MNIST.rows == {"train": MNIST.train_images, "test": MNIST.test_images}


def test_task_is_frozen_and_hashable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        MNIST.name = "other"
    assert len({MNIST, dataclasses.replace(MNIST), COLOURS}) == 2


@pytest.mark.parametrize("field", ["mean", "std"])
def test_task_needs_a_mean_and_deviation_per_channel(field):
    with pytest.raises(ValueError, match="3 channels"):
        dataclasses.replace(COLOURS, **{field: (0.5,)})


@pytest.mark.parametrize(
    "name", ["linear", "mlp-7", "mlp-1200x2", "cnn-small", "cnn-separable", "mlp-8_rank-50"]
)
def test_networks_are_built_for_their_task(name):
    model = registry.build(name, 0, COLOURS).eval()
    assert model(torch.zeros(2, *COLOURS.image_shape)).shape == (2, COLOURS.classes)
    weights = {key: value.contiguous() for key, value in model.state_dict().items()}
    registry.with_weights(name, weights, "here", COLOURS)
    assert network_size(name, COLOURS).parameters == sum(weight.numel() for weight in model.parameters())
    assert diagrams.stages(name, COLOURS)[0].shape == COLOURS.image_shape


def test_transformer_patches_cover_a_wide_image():
    task = dataclasses.replace(COLOURS, image_shape=(3, 28, 21))
    assert registry.build("vit", 0, task).eval()(torch.zeros(2, 3, 28, 21)).shape == (2, 3)


def test_feature_shapes_are_cached_per_task():
    assert registry.feature_shapes("cnn-tiny") != registry.feature_shapes("cnn-tiny", COLOURS)


def test_normalize_uses_the_task_mean_and_deviation():
    task = dataclasses.replace(MNIST, mean=(0.5,), std=(0.25,))
    pixels = torch.tensor([[[0, 255]]], dtype=torch.uint8)
    torch.testing.assert_close(normalize(pixels, task), torch.tensor([[[[-2.0, 2.0]]]]))
