"""Choose which hidden layers of student and teacher to compare, and project between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.data.task import MNIST
from kd.errors import UserError
from kd.models import registry
from kd.models.inference import Outputs
from kd.objectives import Method
from kd.randomness import generator

#: Feature maps are average-pooled to at most GRID x GRID values per channel, to limit the memory that a
#: teacher's features take. Finer grids teach more: on the sample with 100 labels and no soft targets, mlp-128
#: reached a validation accuracy of 76.7%, 83.0% and 85.7% (similarity) and of 81.6%, 87.3% and 88.9% (pkt)
#: with grids of side 1, 2 and 4; the control reached 79.0%.
GRID = 4

Shapes = Sequence[tuple[int, ...]]


@dataclass(frozen=True)
class View:
    """Some hidden layers of a network, each as one vector per image.

    Attributes:
        layers: indices of the features.
        sides: for each of ``layers``, the side of the grid to which a feature map is average-pooled.
        attention: whether to reduce a feature map to the sum of squares over its channels.
    """

    layers: tuple[int, ...]
    sides: tuple[int, ...]
    attention: bool = False

    def __call__(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return vectors, (N, D), for each of ``layers``."""
        return tuple(self._vector(features[layer], side) for layer, side in zip(self.layers, self.sides))

    def _vector(self, feature: Tensor, side: int) -> Tensor:
        if feature.dim() == 2:
            return feature
        if self.attention:
            feature = feature.square().sum(1, keepdim=True)
        return F.adaptive_avg_pool2d(feature, side).flatten(1)

    def widths(self, shapes: Shapes) -> list[int]:
        """Return D for each layer, for a network whose features have ``shapes``."""
        return [
            vector.shape[1] for vector in self([torch.empty(1, *shape, device="meta") for shape in shapes])
        ]


class Connection:
    """The views of student and teacher that a method compares.

    Args:
        student: the view of the student.
        teacher: the view of the teacher.
        projection: for each layer, a map from the student's vector to the teacher's. It is trained with the
            student and dropped afterwards. None if the method needs none.
    """

    def __init__(self, student: View, teacher: View, projection: nn.ModuleList | None):
        self.student, self.teacher, self.projection = student, teacher, projection

    def to(self, device: torch.device) -> Connection:
        """Return the connection with its projection moved to ``device``."""
        return Connection(self.student, self.teacher, self.projection and self.projection.to(device))

    def __call__(self, outputs: Outputs) -> Outputs:
        """Return the student's outputs with its features replaced by (projected) vectors, (N, D)."""
        vectors = self.student(outputs.features)
        if self.projection is not None:
            vectors = tuple(project(vector) for project, vector in zip(self.projection, vectors))
        return Outputs(outputs.logits, vectors)


def check(method: Method, role: str, architecture: str) -> None:
    """Check that a network has the hidden layers that ``method`` compares.

    Args:
        role: what the network is, such as "student" or "teacher".

    Raises:
        UserError: the network lacks them.
    """
    if method.feature_view is None:
        return
    if "+" in architecture:
        raise UserError(
            f"The method {method.name} compares hidden layers, which several teachers do not share; "
            "choose one teacher."
        )
    shapes = registry.feature_shapes(architecture)
    missing = None
    if not shapes:
        missing = "hidden layers"
    elif method.feature_view == "maps" and not any(map(_is_map, shapes)):
        missing = "feature maps (the outputs of convolutions)"
    if missing:
        raise UserError(
            f"The method {method.name} compares {missing}, but the {role} {architecture} has none; "
            f"choose another {role} or method."
        )


def connect(method: Method, student: str, teacher: str, seed: int) -> Connection | None:
    """Return the connection of two architectures for ``method``; None if it compares only logits.

    The projection's initial weights depend only on ``seed``.

    Raises:
        UserError: the networks do not have the layers that the method compares.
    """
    check(method, "student", student)
    check(method, "teacher", teacher)
    if method.feature_view is None:
        return None
    ours, theirs = registry.feature_shapes(student), registry.feature_shapes(teacher)
    student_view, teacher_view = (
        _maps(ours, theirs)
        if method.feature_view == "maps"
        else (_layer(method.feature_view, ours), _layer(method.feature_view, theirs))
    )
    projection = None
    if method.projection:
        widths = list(zip(student_view.widths(ours), teacher_view.widths(theirs)))
        projection = _projection(widths, seed, "projection")
    return Connection(student_view, teacher_view, projection)


def check_exits(student: str) -> None:
    """Check that a student is deep enough for exits.

    Raises:
        UserError: it has fewer than two hidden layers.
    """
    if len(registry.feature_shapes(student)) < 2:
        raise UserError(
            f"The scheme exits needs a student with at least two hidden layers, but {student} has fewer; "
            "choose another student or scheme."
        )


def exits(student: str, seed: int) -> Connection:
    """Return a connection with a classifier, one dense layer, on each hidden layer but the last.

    Raises:
        UserError: the student is too shallow.
    """
    check_exits(student)
    shapes = registry.feature_shapes(student)[:-1]
    view = View(tuple(range(len(shapes))), tuple(min(GRID, shape[-1]) for shape in shapes))
    pairs = [(width, MNIST.classes) for width in view.widths(shapes)]
    return Connection(view, View((), ()), _projection(pairs, seed, "exits"))


def _projection(pairs: Sequence[tuple[int, int]], seed: int, purpose: str) -> nn.ModuleList:
    """Return a dense layer for each pair of widths; initial weights depend on ``seed`` and ``purpose``."""
    with torch.device("meta"):
        layers = nn.ModuleList([nn.Linear(*pair) for pair in pairs])
    return registry.initialize(layers.to_empty(device="cpu"), generator(seed, purpose))


def _is_map(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3


def _layer(position: str, shapes: Shapes) -> View:
    """Return a view of the "last" or the "middle" hidden layer."""
    layer = len(shapes) - 1 if position == "last" else (len(shapes) - 1) // 2
    return View((layer,), (min(GRID, shapes[layer][-1]),))


def _maps(ours: Shapes, theirs: Shapes) -> tuple[View, View]:
    """Pair the student's deepest feature map of each size with a feature map of the teacher.

    From the teacher, choose the deepest map of the same size, else of the next larger size, else of
    its largest size.
    """
    our_maps, their_maps = (
        {shape[-1]: layer for layer, shape in enumerate(shapes) if _is_map(shape)}
        for shapes in (ours, theirs)
    )
    their_sides = {
        side: min((other for other in their_maps if other >= side), default=max(their_maps))
        for side in our_maps
    }
    sides = tuple(min(pair) for pair in their_sides.items())
    return View(tuple(our_maps.values()), sides, attention=True), View(
        tuple(their_maps[side] for side in their_sides.values()), sides, attention=True
    )
