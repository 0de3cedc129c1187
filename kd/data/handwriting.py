"""Draw digits as people write them, and vary MNIST's images in the same way.

MNIST has few slashed zeros, few ones with a long upstroke and no sevens with a long bar, so a network that
learned from it alone misreads them. A view of an image is the image itself; or the image with a habit
added, turned, slanted, stretched and written with another pen; or a new drawing of its digit.

All random numbers of a view come from the image's id and the view's number, so a view is the same
whenever it is made and a teacher's logits of it can be cached.
"""

from __future__ import annotations

import enum
import functools
import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kd.data.habits import TRAINED, Habit
from kd.data.task import MNIST

SIDE = MNIST.height
DIGIT_SIDE = 20  # pixels, as in MNIST
POINTS = 96  # per drawing: with strokes of some 50 px in all they lie half a pixel apart
CONTROLS = 32  # the most control points of a drawing
#: Shares of the views that are the image itself and that are new drawings.
SAME, DRAWN = 0.4, 0.15
ADDED = 0.3  # share of the other zeros, ones and sevens to which a habit is added
_REACH = 3  # pixels from a point of a stroke that its ink can reach


# -- random numbers --------------------------------------------------------------------------


def uniform(ids: Tensor, views: Tensor, count: int, stream: int = 0) -> Tensor:
    """Return random numbers from 0 to 1 that depend on nothing but the arguments, (N, count) float32.

    Args:
        ids: (N,) int64.
        views: (N,) int64.
        stream: another number gives other, independent numbers.

    Source: the finalizer of Steele et al. 2014 (SplitMix64, OOPSLA), applied twice.
    """
    columns = torch.arange(count, device=ids.device)
    keys = (ids * 1_000_003 + views) * 257 + stream
    return (_mixed(_mixed(keys)[:, None] + columns) >> 40 & 0xFFFFFF).float() / 2**24


def _mixed(numbers: Tensor) -> Tensor:
    numbers = numbers * -7046029254386353131 + 1442695040888963407
    for shift, factor in ((30, -4658895280553007687), (27, -7723592293110705685)):
        numbers = (numbers ^ (numbers >> shift & (1 << 64 - shift) - 1)) * factor
    return numbers ^ (numbers >> 31 & (1 << 33) - 1)


def _normal(uniforms: Tensor) -> Tensor:
    """Return normal random numbers for uniform ones; none is beyond 3."""
    return (torch.erfinv(uniforms * 1.994 - 0.997) * math.sqrt(2)).clamp(-3, 3)


# -- drawing ---------------------------------------------------------------------------------


class Book:
    """Habits as tensors, so that many drawings are made at once."""

    def __init__(self, habits: Sequence[Habit]):
        self.habits = habits
        shapes = [_shape(habit) for habit in habits]
        self.curves = torch.stack([shape[0] for shape in shapes])  # (habits, POINTS, CONTROLS)
        self.stroke_of = torch.stack([shape[1] for shape in shapes])  # (habits, CONTROLS)
        self.controls = torch.stack([_controls(habit.strokes) for habit in habits])
        self.others = torch.stack([_controls(habit.other or habit.strokes) for habit in habits])
        self.digits = torch.tensor([habit.digit for habit in habits])
        weights = torch.tensor([habit.weight for habit in habits])
        #: For each digit, the cumulative shares of all habits: 0 for those of other digits.
        own = (self.digits == torch.arange(MNIST.classes)[:, None]) * weights
        self.shares = (own / own.sum(1, keepdim=True).clamp(min=1e-9)).cumsum(1)

    def choose(self, digits: Tensor, uniforms: Tensor) -> Tensor:
        """Return a habit for each digit, (N,) int64, by uniform random numbers, (N,)."""
        return (self.shares[digits] <= uniforms[:, None] * 0.999999).sum(1).clamp(max=len(self.habits) - 1)


@functools.cache
def trained() -> Book:
    """Return the habits that training images are drawn with."""
    return Book(TRAINED)


def draw(book: Book, chosen: Tensor, uniforms: Tensor) -> Tensor:
    """Return drawings, (N, 28, 28) uint8, sized and placed as MNIST's digits are.

    Args:
        chosen: (N,) int64, places in ``book``.
        uniforms: (N, 128) random numbers from 0 to 1.
    """
    points = written(book, chosen, uniforms[:, :112])
    rest = uniforms[:, 112:]
    width = 1.3 * (3.6 / 1.3) ** rest[:, 0]  # pixels at a height of 20
    box_low, box_high = points.amin(1), points.amax(1)
    length = (box_high - box_low).amax(1).clamp(min=1e-3)
    scale = ((DIGIT_SIDE - width) / length)[:, None, None]
    points = (points - box_low[:, None]) * scale
    # MNIST places digits by their centre of mass and by whole pixels.
    shift = 13.5 - points.mean(1, keepdim=True) + (rest[:, None, 1:3] - 0.5)
    low, high = (width / 2)[:, None, None], (27 - width / 2)[:, None, None]
    shift = torch.maximum(
        torch.minimum(shift, high - points.amax(1, keepdim=True)), low - points.amin(1, keepdim=True)
    )
    return ink(points + shift, width)


def written(book: Book, chosen: Tensor, uniforms: Tensor) -> Tensor:
    """Return the points of drawings, (N, POINTS, 2), each written in a hand of its own.

    Args:
        chosen: (N,) int64, places in ``book``.
        uniforms: (N, 112) random numbers from 0 to 1.
    """
    degree, hand = uniforms[:, :1, None], uniforms[:, 1:16]
    controls = book.controls[chosen] * (1 - degree) + book.others[chosen] * degree
    # Each stroke is moved, and each point in it.
    strokes = book.stroke_of[chosen][:, :, None].expand(-1, -1, 2)
    moved = _normal(uniforms[:, 16:24].unflatten(1, (4, 2))) * 0.35
    wobble = _normal(uniforms[:, 24:88].unflatten(1, (CONTROLS, 2))) * (0.15 + 0.4 * hand[:, :1, None])
    controls = controls + moved.gather(1, strokes) + wobble
    points = torch.bmm(book.curves[chosen], controls) - 5
    angle = _normal(hand[:, 1]) * math.radians(7)
    slant = 0.05 + _normal(hand[:, 2]) * 0.22
    stretch = torch.exp(_normal(hand[:, 3]) * 0.18)
    x, y = points.unbind(2)
    x = x * stretch[:, None] - slant[:, None] * y
    bend = _normal(hand[:, 4:8]) * 0.035
    x, y = x + bend[:, :1] * y * y + bend[:, 1:2] * x * y, y + bend[:, 2:3] * x * x + bend[:, 3:4] * x * y
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    return torch.stack([cos * x - sin * y, sin * x + cos * y], 2)


def ink(points: Tensor, width: Tensor) -> Tensor:
    """Return the ink of a round pen at these points, (N, 28, 28) uint8.

    Args:
        points: (N, P, 2) as (x, y) in pixels, close to one another along each stroke.
        width: (N,) of the pen, in pixels, below 5.
    """
    near = torch.arange(-_REACH, _REACH + 1, device=points.device)
    corner = points.round()
    across = (corner[..., None] + near - points[..., None]).square()  # (N, P, 2, window)
    distance = (across[:, :, 1, :, None] + across[:, :, 0, None, :]).sqrt()
    value = ((width / 2 + 0.5)[:, None, None, None] - distance).clamp(0, 1)
    cells = corner.long()[..., None] + near + _REACH
    side = SIDE + 2 * _REACH
    cells = cells.clamp(0, side - 1)
    index = cells[:, :, 1, :, None] * side + cells[:, :, 0, None, :]
    image = torch.zeros((len(points), side * side), device=points.device)
    image.scatter_reduce_(1, index.flatten(1), value.flatten(1), "amax")
    image = image.unflatten(1, (side, side))[:, _REACH:-_REACH, _REACH:-_REACH]
    return (image * 255).round_().to(torch.uint8)


# -- varying images --------------------------------------------------------------------------


def vary(images: Tensor, digits: Tensor, uniforms: Tensor) -> Tensor:
    """Return the images as if written by others, (N, 28, 28) uint8, sized and placed as MNIST's digits are.

    Some get a habit of their digit; all are turned, slanted and stretched, and many written with a
    wider or a narrower pen.

    Args:
        images: (N, 28, 28) uint8.
        digits: (N,) int64.
        uniforms: (N, 32) random numbers from 0 to 1.
    """
    added = with_habit(images, digits, uniforms[:, :16])
    warped = _warped(added.float().unsqueeze(1), uniforms[:, 16:24])
    change = (uniforms[:, 24] * 2 - 1).clamp(-0.6, 0.8)[:, None, None, None]
    wider = F.max_pool2d(warped, 3, 1, 1) - warped
    narrower = warped + F.max_pool2d(-warped, 3, 1, 1)
    rewritten = warped + change.clamp(min=0) * wider + change.clamp(max=0) * narrower
    # As after a drawing is prepared, some pixel is fully white.
    rewritten = rewritten * (255 / rewritten.amax((2, 3), keepdim=True).clamp(min=64))
    same = (uniforms[:, 25] < 0.5)[:, None, None, None]
    return torch.where(same, warped, rewritten).round_().clamp_(0, 255).to(torch.uint8).squeeze(1)


def with_habit(images: Tensor, digits: Tensor, uniforms: Tensor) -> Tensor:
    """Return the images; some zeros get a slash, ones an upstroke or a foot, sevens a bar.

    Args:
        images: (N, 28, 28) uint8.
        digits: (N,) int64.
        uniforms: (N, 16) random numbers from 0 to 1.
    """
    some = (uniforms[:, 0] < ADDED) & ((digits == 0) | (digits == 1) | (digits == 7))
    places = some.nonzero().squeeze(1)
    if not len(places):
        return images
    chosen, which, u = images[places], digits[places], uniforms[places]
    mask = (chosen > 100).float()
    axis = torch.arange(SIDE, device=images.device, dtype=torch.float32)
    rows, columns = mask.amax(2) > 0, mask.amax(1) > 0
    top, bottom = _first(rows), SIDE - 1 - _first(rows.flip(1))
    left, right = _first(columns), SIDE - 1 - _first(columns.flip(1))
    high, wide = (bottom - top) / 2, (right - left) / 2

    def middle(share: Tensor) -> Tensor:
        """Return the mean column of the ink in the rows at this share of the height."""
        near = (-(axis - (top + share * 2 * high)[:, None]).square() / 2).exp()[:, :, None] * mask
        return (near * axis).sum((1, 2)) / near.sum((1, 2)).clamp(min=1e-6)

    x, y = (left + right) / 2, (top + bottom) / 2
    reach = 0.5 + 0.8 * u[:, 1]
    # A slash from the upper right, a bar, or now and then a slash from the upper left.
    side, steepness = torch.where(u[:, 2] < 0.15, -1.0, 1.0), torch.where(u[:, 4] < 0.3, 0.1, 1.0)
    dx, dy = reach * wide * (0.3 + (0.4 + 0.8 * u[:, 3])), -reach * high * steepness * side
    slash = torch.stack([x - dx, y - dy, x + dx, y + dy], 1)
    low = 0.4 + 0.2 * u[:, 5]
    at, half, tilt = middle(low), 2 + 3.5 * u[:, 6], (u[:, 7] - 0.6) * 3
    shift = (u[:, 8] - 0.5) * 2
    level = top + low * 2 * high
    bar = torch.stack([at - half + shift, level - tilt / 2, at + half + shift, level + tilt / 2], 1)
    start = middle(torch.full_like(low, 0.04))
    length = 2 + 6 * u[:, 9]
    steep = 0.5 + 1.2 * u[:, 10]
    upstroke = torch.stack(
        [start, top + 0.5, start - length / steep.clamp(min=0.8), top + length * steep.clamp(max=1.2)], 1
    )
    end = middle(torch.full_like(low, 0.97))
    foot = torch.stack(
        [end - 2 - 3 * u[:, 11], bottom - 0.5 + u[:, 12], end + 2 + 3 * u[:, 13], bottom - 0.5 - u[:, 12]], 1
    )
    first = torch.where((which == 0)[:, None], slash, torch.where((which == 7)[:, None], bar, upstroke))
    second = torch.where(((which == 1) & (u[:, 14] < 0.35))[:, None], foot, first)
    t = torch.linspace(0, 1, POINTS // 2, device=images.device)[None, :, None]
    points = torch.cat([line[:, None, :2] * (1 - t) + line[:, None, 2:] * t for line in (first, second)], 1)
    result = images.clone()
    result[places] = torch.maximum(chosen, ink(points, 1.5 + 2 * u[:, 15]))
    return result


def _first(occupied: Tensor) -> Tensor:
    """Return the index of the first True of each row, (N,) float32."""
    return occupied.float().argmax(1).float()


def _warped(pixels: Tensor, uniforms: Tensor) -> Tensor:
    """Return images, (N, 1, 28, 28) float32, turned, slanted and stretched, of MNIST's size and place."""
    draw = uniforms * 2 - 1
    angle, slant = draw[:, 0] * math.radians(12), draw[:, 1] * 0.25
    stretch = torch.exp(draw[:, 2] * 0.2)
    cos, sin = angle.cos(), angle.sin()
    # From the image to the result: stretch and slant, then turn.
    forward = torch.stack([cos * stretch, -cos * slant - sin, sin * stretch, cos - sin * slant], 1).view(
        -1, 2, 2
    )
    axis = torch.arange(SIDE, device=pixels.device, dtype=torch.float32) - (SIDE - 1) / 2
    y, x = (grid.flatten() for grid in torch.meshgrid(axis, axis, indexing="ij"))
    moved = forward @ torch.stack([x, y])  # (N, 2, 784)
    weight = pixels.flatten(1)
    inked = (weight > 64)[:, None]
    high = moved.masked_fill(~inked, -1e3).amax(2)
    low = moved.masked_fill(~inked, 1e3).amin(2)
    scale = (DIGIT_SIDE - 1 + draw[:, 3] * 0.8) / (high - low).amax(1).clamp(min=1)
    mean = (moved * weight[:, None]).sum(2) / weight.sum(1, keepdim=True).clamp(min=1)
    shift = -scale[:, None] * mean + draw[:, 4:6] * 0.5
    inner = (SIDE - 1) / 2 - 0.5
    shift = torch.maximum(torch.minimum(shift, inner - scale[:, None] * high), -inner - scale[:, None] * low)
    back = torch.linalg.inv(forward) / scale[:, None, None]
    half = SIDE / 2
    matrix = torch.cat([back, -(back @ shift[:, :, None]) / half], 2)
    grid = F.affine_grid(matrix, list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, align_corners=False)


class Kind(enum.IntEnum):
    """The image itself, the image varied, or a new drawing."""

    SAME = 0
    VARIED = 1
    DRAWN = 2


def kinds(ids: Tensor, views: Tensor) -> Tensor:
    """Return the Kind of each view, (N,) int64, of the images with these ids, (N,), by its number, (N,)."""
    number = uniform(ids, views, 1).squeeze(1)
    return torch.where(number < DRAWN, Kind.DRAWN, torch.where(number < DRAWN + SAME, Kind.SAME, Kind.VARIED))


def view(images: Tensor, digits: Tensor, ids: Tensor, views: Tensor) -> Tensor:
    """Return these views of the images, (N, 28, 28) uint8.

    Args:
        images: (N, 28, 28) uint8.
        digits: (N,) int64, what the images show.
        ids: (N,) int64, the images' indices in their file.
        views: (N,) int64.
    """
    kind = kinds(ids, views)
    new, varied = ((kind == wanted).nonzero().squeeze(1) for wanted in (Kind.DRAWN, Kind.VARIED))
    result = images.clone()
    uniforms = uniform(ids[varied], views[varied], 32, stream=1)
    result[varied] = vary(images[varied], digits[varied], uniforms)
    book, uniforms = trained(), uniform(ids[new], views[new], 129, stream=2)
    result[new] = draw(book, book.choose(digits[new], uniforms[:, 128]), uniforms[:, :128])
    return result


def _controls(strokes: Sequence[Sequence[tuple[float, float]]]) -> Tensor:
    """Return the points of strokes, each corner once, (CONTROLS, 2), padded with the last one."""
    points = [point for stroke in strokes for point, _ in itertools.groupby(stroke)]
    return torch.tensor(points + [points[-1]] * (CONTROLS - len(points)), dtype=torch.float32)


def _shape(habit: Habit) -> tuple[Tensor, Tensor]:
    """Return how a habit's points depend on its control points, (POINTS, CONTROLS), and their strokes."""
    lengths = [
        max(0.5, sum(math.dist(a, b) for a, b in itertools.pairwise(stroke))) for stroke in habit.strokes
    ]
    counts = [max(4, int(POINTS * length / sum(lengths))) for length in lengths]
    counts[0] += POINTS - sum(counts)
    curves, stroke_of = torch.zeros(POINTS, CONTROLS), torch.zeros(CONTROLS, dtype=torch.int64)
    row = first = 0
    for place, (stroke, count) in enumerate(zip(habit.strokes, counts)):
        weights = _curve(stroke, count)
        curves[row : row + count, first : first + weights.shape[1]] = weights
        stroke_of[first : first + weights.shape[1]] = min(place, 3)
        row, first = row + count, first + weights.shape[1]
    return curves, stroke_of


def _curve(stroke: Sequence[tuple[float, float]], count: int) -> Tensor:
    """Return how ``count`` points evenly along a stroke depend on its control points, (count, controls).

    Source: the curve of Catmull and Rom 1974, in pieces between corners.
    """
    own, corners = [], set()
    for place, (_, group) in enumerate(itertools.groupby(stroke)):
        own.append(place)
        if len(list(group)) > 1:
            corners.add(place)
    points = [point for point, _ in itertools.groupby(stroke)]
    ends = sorted({0, len(own) - 1} | corners)
    dense: list[Tensor] = []
    for left, right in itertools.pairwise(ends):
        for at in range(left, right):
            around = [max(left, at - 1), at, at + 1, min(right, at + 2)]
            t = torch.linspace(0, 1, 25)[:-1]
            basis = (
                torch.stack(
                    [
                        -t + 2 * t**2 - t**3,
                        2 - 5 * t**2 + 3 * t**3,
                        t + 4 * t**2 - 3 * t**3,
                        -(t**2) + t**3,
                    ],
                    1,
                )
                / 2
            )
            piece = torch.zeros(len(t), len(own))
            for column, control in enumerate(around):
                piece[:, control] += basis[:, column]
            dense.append(piece)
    last = torch.zeros(1, len(own))
    last[0, -1] = 1
    weights = torch.cat([*dense, last])
    path = weights @ torch.tensor(points, dtype=torch.float32)
    along = F.pad(path.diff(dim=0).norm(dim=1).cumsum(0), (1, 0))
    wanted = torch.linspace(0, 1, count) * along[-1]
    return weights[torch.searchsorted(along, wanted).clamp(max=len(weights) - 1)]
