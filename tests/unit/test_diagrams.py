"""Test that a diagram shows the layers in their order, with their shapes and weights."""

import xml.etree.ElementTree as ElementTree

import pytest
import torch
from torch import nn

from kd.metrics import size
from kd.models import diagrams, registry

NAMES = [*registry.ARCHITECTURES, "mlp-64-32", "mlp-2048-2048-2048"]
SVG = "{http://www.w3.org/2000/svg}"


def parsed(name, scale_with=None):
    text = diagrams.svg(name, "#123456", scale_with)
    return ElementTree.fromstring(text.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def bars(name, scale_with=None):
    return [float(bar.get("width")) for bar in parsed(name, scale_with).iter(f"{SVG}rect")]


@pytest.mark.parametrize("name", NAMES)
def test_rows_go_from_image_to_logits_with_all_weights(name):
    rows = diagrams.stages(name)
    assert rows[0].shape == (1, 28, 28) and rows[-1].shape == (10,)
    assert sum(row.weights for row in rows) == size.network_size(name).parameters


def test_rows_have_plain_labels_and_output_shapes():
    assert [(row.label, row.shape) for row in diagrams.stages("cnn-tiny")] == [
        ("image", (1, 28, 28)),
        ("3×3 convolution, ReLU", (8, 14, 14)),
        ("3×3 convolution, ReLU", (16, 7, 7)),
        ("3×3 convolution, ReLU", (32, 4, 4)),
        ("dense", (10,)),
    ]
    assert [row.label for row in diagrams.stages("cnn-separable")][2:4] == [
        "3×3 depthwise, ReLU",
        "1×1 pointwise, ReLU",
    ]
    assert [row.label for row in diagrams.stages("mlp-1200x2")] == [
        "image",
        "dense, ReLU",
        "dense, ReLU",
        "dense",
    ]
    blocks = [
        [row.label for row in diagrams.stages(name)].count("Transformer block")
        for name in ("vit", "vit-half")
    ]
    assert blocks == [6, 3]


def test_rows_include_layers_without_weights():
    rows = diagrams.stages("mlp-1200x2")
    assert rows[0].parts == ("image", "Flatten", "Dropout") and rows[1].parts == (
        "BoundedLinear",
        "ReLU",
        "Dropout",
    )


class Branches(nn.Module):
    """Not a Sequential, and its layers are called in a different order from their definition."""

    def __init__(self):
        super().__init__()
        self.last, self.bend = nn.Linear(5, 10), nn.Tanh()
        self.first = nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(784, 5)))

    def forward(self, images):
        return self.last(self.bend(self.first(images)))


class Whole(nn.Module):
    """A module without submodules."""

    def forward(self, images):
        return images.flatten(1)[:, :10]


def test_any_module_is_drawn_in_the_order_of_its_calls(monkeypatch):
    for cls in (Branches, Whole):
        monkeypatch.setitem(
            registry.ARCHITECTURES,
            f"any <{cls.__name__}>",
            registry.Architecture(f"any <{cls.__name__}>", "Any.", lambda task, cls=cls: cls()),
        )
    assert [row.label for row in diagrams.stages("any <Branches>")] == ["image", "dense", "Tanh", "dense"]
    assert [row.label for row in diagrams.stages("any <Whole>")] == ["image", "Whole"]
    assert (
        parsed("any <Whole>")
        .get("aria-label")
        .startswith("The layers of any <Whole>: image, 1×28×28; Whole, 10.")
    )


@pytest.mark.parametrize("name", NAMES)
def test_svg_is_well_formed_and_within_its_frame(name):
    svg = parsed(name)
    _, _, width, height = map(float, svg.get("viewBox").split())
    for bar in svg.iter(f"{SVG}rect"):
        x, y, w, h = (float(bar.get(key)) for key in ("x", "y", "width", "height"))
        assert 0 <= x and x + w <= width and 0 <= y and y + h <= height and w > 0
    for text in svg.iter(f"{SVG}text"):
        assert 0 <= float(text.get("x")) <= width and 0 < float(text.get("y")) < height


@pytest.mark.parametrize("name", NAMES)
def test_labels_do_not_overlap_the_numbers(name):
    """At a font size of 11.5 px, a letter is about 6 px wide."""
    for row in parsed(name).iter(f"{SVG}g"):
        label, output, *_ = row.iter(f"{SVG}text")
        assert float(label.get("x")) + 6 * len(label.text) < float(output.get("x")) - 6 * len(output.text) + 6


def test_bar_width_is_the_square_root_of_the_output_size():
    image, hidden, logits = bars("mlp-800x2")[0], bars("mlp-800x2")[1], bars("mlp-800x2")[3]
    assert hidden / image == pytest.approx((800 / 784) ** 0.5, rel=0.01) and logits / image == pytest.approx(
        (10 / 784) ** 0.5, rel=0.03
    )


def test_two_diagrams_share_a_scale():
    teacher, student = bars("cnn", "mlp-128"), bars("mlp-128", "cnn")
    assert teacher[0] == student[0] and max(teacher) == diagrams.BARS
    assert max(bars("mlp-128")) == diagrams.BARS, "alone it must fill its frame"


def test_text_takes_the_page_colour_and_bars_the_models():
    colours = {element.get("fill") for element in parsed("vit").iter() if element.get("fill")}
    assert colours == {"#123456", "currentColor"}


def test_screen_reader_text_names_every_row():
    words = parsed("vit-half").get("aria-label")
    for row in diagrams.stages("vit-half"):
        assert (
            row.label in words
            and "×".join(map(str, row.shape)) in words
            and (not row.weights or f"{row.weights:,} weights" in words)
        )


def test_drawing_uses_no_random_numbers():
    diagrams.stages.cache_clear()
    before = torch.get_rng_state()
    diagrams.svg("vit", "#123456")
    assert torch.equal(before, torch.get_rng_state())
