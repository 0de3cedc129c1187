"""What becomes of a drawing or a picture before a model sees it, and when it counts as a digit."""

from __future__ import annotations

import base64
import io
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from kd.data.digits import Mnist, normalize
from kd.drawing import familiarity, links, preprocess
from kd.errors import UserError
from kd.models import inference, registry
from kd.teachers import catalogue
from kd.teachers.cached import CachedTeacher
from tests.strokes import DIGITS, LETTERS, SCRIBBLES, Stroke, line, render


@pytest.fixture(scope="module")
def shipped() -> CachedTeacher:
    return catalogue.load("cnn")


def drawn(strokes: list[Stroke], width: int = 20) -> np.ndarray | None:
    """What the models see of a drawing on a canvas of 280 px."""
    return preprocess.prepare(preprocess.ink_from_canvas(render(strokes, 280, width)))


def inputs(pictures: list[np.ndarray]) -> torch.Tensor:
    return normalize(torch.from_numpy(np.stack(pictures)))


def answers(model: CachedTeacher, pictures: list[np.ndarray]) -> list[int]:
    return inference.logits_in_chunks(model.model, inputs(pictures)).argmax(1).tolist()


def rectangle(top: int, left: int, height: int, width: int, side: int = 280) -> np.ndarray:
    ink = np.zeros((side, side), np.float32)
    ink[top : top + height, left : left + width] = 1
    return ink


def centre(picture: np.ndarray, axis: int) -> float:
    """The centre of mass along ``axis``, in pixel indices."""
    profile = picture.sum(1 - axis, dtype=float)
    return (profile * np.arange(28)).sum() / profile.sum()


def box(picture: np.ndarray) -> tuple[int, int, int, int]:
    """Top, left, height and width of what is not black."""
    rows, columns = np.flatnonzero(picture.any(1)), np.flatnonzero(picture.any(0))
    return rows[0], columns[0], rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1


# -- canvas pixels ----------------------------------------------------------------


def test_ink_is_white_on_black_or_on_nothing():
    rgba = np.zeros((1, 4, 4), np.uint8)
    rgba[0] = [[0, 0, 0, 255], [0, 0, 0, 0], [255, 255, 255, 255], [255, 255, 255, 51]]
    assert preprocess.ink_from_canvas(rgba) == pytest.approx(np.array([[0, 0, 1, 0.2]]))


def test_a_transparent_canvas_gives_the_same_as_a_black_one():
    black = render(DIGITS[3])
    clear = black.copy()
    clear[..., 3], clear[..., :3] = black[..., 0], 255
    assert (
        preprocess.prepare(preprocess.ink_from_canvas(clear))
        == preprocess.prepare(preprocess.ink_from_canvas(black))
    ).all()


# -- geometry ---------------------------------------------------------------------


def test_mnists_centre_is_the_one_that_is_aimed_at(sample: Mnist):
    images = sample.train.images.double()
    place = torch.arange(28, dtype=torch.double)
    for axis in (1, 2):
        means = (images.sum(axis) * place).sum(1) / images.sum((1, 2))
        assert means.mean() == pytest.approx(preprocess.CENTRE, abs=0.02)
        assert (means - preprocess.CENTRE).abs().max() < 0.55


@pytest.mark.parametrize(
    "height, width, expected",
    [
        (200, 100, (20, 10)),
        (100, 200, (10, 20)),
        (100, 100, (20, 20)),
        (40, 40, (20, 20)),
        (270, 27, (20, 2)),
        (150, 38, (20, 5)),
        (280, 3, (20, 2)),  # hair-thin: 1 pixel would be left
    ],
)
def test_a_rectangle_is_scaled_to_20_and_centred(height, width, expected):
    picture = preprocess.prepare(rectangle(0, 3, height, width))
    assert picture.shape == (28, 28) and picture.dtype == np.uint8 and picture.max() == 255
    assert box(picture)[2:] == expected
    for axis in (0, 1):
        # By whole pixels, as in MNIST, so half a pixel may be left.
        assert centre(picture, axis) == pytest.approx(preprocess.CENTRE, abs=0.5)


def test_a_solid_stays_solid():
    assert set(np.unique(preprocess.prepare(rectangle(7, 3, 200, 100)))) == {0, 255}


def test_the_centre_of_mass_is_centred_not_the_box():
    # A square of 100 with an arm of 50 x 100 at its top right: 10 columns of 10 pixels, then 10 of 5.
    picture = preprocess.prepare(np.maximum(rectangle(50, 50, 100, 100), rectangle(50, 150, 50, 100)))
    # The mean column is (100 * 4.5 + 50 * 14.5) / 150 = 7.8, so the first is round(14 - 7.8) = 6, not 4.
    # The mean row is (100 * 4.5 + 50 * 2) / 150 = 3.7, so the first is round(14 - 3.7) = 10, not 9.
    assert box(picture) == (10, 6, 10, 20)


def test_no_ink_is_cut_off_at_the_border():
    # The arm is 10 thin: the mean column is (100 * 4.5 + 10 * 14.5) / 110 = 5.4, so the first would be 9,
    # and 9 + 20 is more than 28.
    picture = preprocess.prepare(np.maximum(rectangle(50, 50, 100, 100), rectangle(50, 150, 10, 100)))
    assert box(picture) == (10, 8, 10, 20)


def test_scaling_down_averages():
    ink = rectangle(40, 40, 200, 200)
    ink[40:240:2] = 0  # every second line is missing
    ink[40, 40:240] = 1
    picture = preprocess.prepare(ink)
    assert picture[6:22, 6:22].mean() > 100 and len(np.unique(picture)) > 1


@pytest.mark.parametrize("width", [4, 9, 20])
def test_faint_ink_and_thin_ink_become_white_as_in_mnist(width: int):
    ink = preprocess.ink_from_canvas(render(DIGITS[6], 280, width))
    assert preprocess.prepare(ink).max() == 255
    assert np.abs(preprocess.prepare(0.3 * ink).astype(int) - preprocess.prepare(ink)).max() <= 1


@pytest.mark.parametrize("digit", DIGITS)
def test_it_does_not_matter_where_on_the_canvas_a_digit_is(digit):
    ink = preprocess.ink_from_canvas(render(DIGITS[digit]))
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    moved = np.zeros_like(ink)
    part = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    moved[: part.shape[0], -part.shape[1] :] = part
    assert (preprocess.prepare(moved) == preprocess.prepare(ink)).all()


@pytest.mark.parametrize("digit", DIGITS)
def test_it_hardly_matters_how_large_a_digit_is(digit):
    large = preprocess.prepare(preprocess.ink_from_canvas(render(DIGITS[digit], 560, 40)))
    middle = preprocess.prepare(preprocess.ink_from_canvas(render(DIGITS[digit], 280, 20)))
    # A centre of mass between two pixels may be rounded either way.
    shifted = [np.roll(middle, (down, across), (0, 1)) for down in (-1, 0, 1) for across in (-1, 0, 1)]
    assert min(np.abs(large.astype(int) - other).mean() for other in shifted) < 6


# -- nothing, or a dot ------------------------------------------------------------


def test_an_empty_canvas_is_nothing():
    assert preprocess.prepare(np.zeros((280, 280), np.float32)) is None
    assert preprocess.prepare(preprocess.ink_from_canvas(np.zeros((280, 280, 4), np.uint8))) is None


@pytest.mark.parametrize("width", [1, 12, 20, 28])
def test_a_click_is_nothing_with_any_pen(width):
    assert drawn([[(0.4, 0.6)]], width) is None


def test_one_pixel_is_nothing():
    assert preprocess.prepare(rectangle(100, 100, 1, 1)) is None


@pytest.mark.parametrize("width", [12, 20, 28])
def test_a_short_one_is_a_one(shipped: CachedTeacher, width: int):
    short = drawn([line((0.50, 0.40), (0.49, 0.65))], width)
    assert answers(shipped, [short]) == [1]


# -- what models make of it -------------------------------------------------------


def test_mnist_images_pass_unchanged(sample: Mnist, shipped: CachedTeacher):
    digits = sample.train.take(slice(None, None, 20))
    assert len(digits) == 200
    enlarged = np.kron(digits.images.numpy(), np.ones((1, 10, 10), np.uint8)).astype(np.float32) / 255
    pictures = [preprocess.prepare(ink) for ink in enlarged]
    assert np.abs(np.stack(pictures).astype(int) - digits.images.numpy()).mean() < 1
    agree = torch.tensor(answers(shipped, pictures)) == shipped.logits(digits).argmax(1)
    assert agree.float().mean() >= 0.99


@pytest.mark.parametrize("width", [3, 12, 16, 20, 24, 28])
def test_the_teacher_reads_all_drawn_digits(shipped: CachedTeacher, width: int):
    assert answers(shipped, [drawn(strokes, width) for strokes in DIGITS.values()]) == list(DIGITS)


@pytest.mark.parametrize("width, expected", [(2, 2), (10, 2), (20, 2), (40, 4)])
def test_hair_thin_strokes_are_widened_to_two_pixels_and_others_left(width, expected):
    # A ring 200 px across: 10 px of drawing are one pixel. Its strokes are cut by row 14, left and right.
    y, x = np.mgrid[:280, :280] - 139.5
    ring = (np.abs(np.hypot(x, y) - 100 + width / 2) <= width / 2).astype(np.float32)
    picture = preprocess.prepare(ring)
    assert picture[14, :14].sum() / 255 == pytest.approx(expected, abs=0.35)


# -- pictures ---------------------------------------------------------------------


def encoded(pixels: np.ndarray, form: str = "PNG", mode: str | None = None, **options) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(file, form, **options)
    return file.getvalue()


def photo(strokes: list[Stroke], depth: float = 0.7) -> np.ndarray:
    """(300, 400) uint8: ink that takes away ``depth`` of the light, on paper in uneven light, with a camera's noise."""
    random = np.random.default_rng(0)
    ink = np.zeros((300, 400))
    ink[10:290, 60:340] = render(strokes, 280, 10)[..., 0] / 255
    y, x = np.mgrid[0:1:300j, 0:1:400j]
    light = 0.9 - 0.3 * x - 0.15 * y**2
    return np.clip((light * (1 - depth * ink) + random.normal(0, 0.03, ink.shape)) * 255, 0, 255).astype(
        np.uint8
    )


@pytest.fixture(scope="module")
def clean() -> dict[int, np.ndarray]:
    """White on black, (280, 280) uint8."""
    return {digit: render(strokes)[..., 0] for digit, strokes in DIGITS.items()}


def seen(pictures: list[bytes]) -> list[np.ndarray]:
    return [preprocess.prepare(preprocess.ink_from_picture(picture)) for picture in pictures]


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
def test_dark_on_light_and_light_on_dark_give_the_same(clean, form):
    light_on_dark = seen([encoded(pixels, form) for pixels in clean.values()])
    dark_on_light = seen([encoded(255 - pixels, form) for pixels in clean.values()])
    expected = [preprocess.prepare(pixels.astype(np.float32) / 255) for pixels in clean.values()]
    for one, other, wanted in zip(light_on_dark, dark_on_light, expected):
        assert np.abs(one.astype(int) - other).mean() < 4
        assert np.abs(one.astype(int) - wanted).mean() < 4


@pytest.mark.parametrize("mode", ["RGB", "P", "1", "LA", "RGBA", "I;16"])
def test_every_colour_mode_is_read(clean, mode):
    picture = (
        encoded((255 - clean[5]).astype(np.uint16) * 257)
        if mode == "I;16"
        else encoded(255 - clean[5], mode=mode)
    )
    assert np.abs(seen([picture])[0].astype(int) - drawn(DIGITS[5])).mean() < 4


@pytest.mark.parametrize("depth", [0.7, 0.3], ids=["pen", "pencil"])
def test_photos_are_read(shipped: CachedTeacher, depth: float):
    pictures = [encoded(photo(strokes, depth), "JPEG", quality=60) for strokes in DIGITS.values()]
    assert answers(shipped, seen(pictures)) == list(DIGITS)


def test_paper_becomes_exactly_black():
    picture = seen([encoded(photo(DIGITS[1]), "JPEG", quality=60)])[0]
    _, _, height, width = box(picture)
    assert height == 20 and width < 8  # nothing but the stroke, or the box would be wider


def test_specks_are_dropped(clean):
    dirty = 255 - clean[3]
    dirty[5:9, 5:9] = dirty[270:274, 20:23] = 0
    assert (seen([encoded(dirty)])[0] == seen([encoded(255 - clean[3])])[0]).all()


def test_a_digit_may_be_small_in_its_photo(clean, shipped: CachedTeacher):
    page = np.full((1400, 1000), 235, np.uint8)
    page[900:1180, 600:880] = 235 - (clean[4] * 0.8).astype(np.uint8)
    assert answers(shipped, seen([encoded(page)])) == [4]


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_phones_rotation_is_undone(clean, form):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned to the left: turn to the right to view
    turned = encoded(np.rot90(255 - clean[7]), form, exif=exif)
    assert np.abs(seen([turned])[0].astype(int) - seen([encoded(255 - clean[7], form)])[0]).mean() < 4


@pytest.mark.parametrize("ink", [0, 255], ids=["black strokes", "white strokes"])
@pytest.mark.parametrize("hidden", [0, 255])
def test_strokes_on_nothing_are_read(clean, ink, hidden):
    rgba = np.full((280, 280, 4), hidden, np.uint8)
    rgba[clean[2] > 0, :3] = ink
    rgba[..., 3] = clean[2]
    assert np.abs(seen([encoded(rgba)])[0].astype(int) - drawn(DIGITS[2])).mean() < 4


def test_a_hole_in_a_picture_is_no_ink(clean):
    rgba = np.dstack([255 - clean[2]] * 3 + [np.full((280, 280), 255, np.uint8)])
    rgba[20:60, 20:60] = 0  # transparent, and black underneath
    assert np.abs(seen([encoded(rgba)])[0].astype(int) - drawn(DIGITS[2])).mean() < 4


@pytest.mark.parametrize("inverted", [False, True])
def test_mnist_images_survive_as_files(sample: Mnist, shipped: CachedTeacher, inverted: bool):
    digits = sample.train.take(slice(None, None, 20))
    pictures = seen([encoded(255 - image if inverted else image) for image in digits.images.numpy()])
    agree = torch.tensor(answers(shipped, pictures)) == shipped.logits(digits).argmax(1)
    assert (~agree).sum() <= 1  # an image on which the teacher itself wavers may tip


@pytest.mark.parametrize("tone", [0, 128, 255])
def test_a_picture_of_nothing_has_no_ink(tone):
    assert seen([encoded(np.full((200, 300), tone, np.uint8))]) == [None]
    assert seen([encoded(photo([]), "JPEG")]) == [None]


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (2, 2), (3, 4000)])
def test_odd_shapes_do_no_harm(shape):
    random = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for pixels in (random, np.zeros(shape, np.uint8)):
            ink = preprocess.ink_from_picture(encoded(pixels))
            assert ink.ndim == 2 and np.isfinite(ink).all()
            preprocess.prepare(ink)


def bomb(side: int) -> bytes:
    """A PNG of ``side`` x ``side`` pixels by its header, in a few bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def scans(count: int) -> bytes:
    """A progressive JPEG whose last scan comes ``count`` times: each costs a pass over all its pixels."""
    whole = encode(Image.new("L", (64, 64)), "JPEG", progressive=True)
    start = whole.rindex(b"\xff\xda")
    return whole[:start] + whole[start:-2] * count + b"\xff\xd9"


def encode(image: Image.Image, format: str, **options) -> bytes:
    content = io.BytesIO()
    image.save(content, format, **options)
    return content.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"", b"no picture", bomb(2_000), encode(Image.new("L", (40, 40)), "JPEG")],
    ids=["nothing", "text", "bomb", "JPEG"],
)
def test_what_no_canvas_sends_is_refused(content):
    with pytest.raises(UserError, match="cannot be read as a picture|more than 2 megapixels"):
        preprocess.ink_from_canvas_file(content)


def test_a_canvas_of_no_size_is_nothing():
    assert preprocess.prepare(np.zeros((0, 0), np.float32)) is None


@pytest.mark.parametrize(
    "content, says",
    [
        (scans(1000), "built of very many scans"),
        (encode(Image.new("L", (4000, 3000)), "WEBP", method=0), "more than 10 megapixels"),
        (b"", "cannot be read as a picture"),
        (b"a text file, not a picture", "cannot be read as a picture"),
        (b"%PDF-1.7\n", "cannot be read as a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "cannot be read as a picture"),
        (encoded(render(DIGITS[8]), "TIFF"), "cannot be read as a picture"),
        (encoded(render(DIGITS[8]))[:700], "cannot be read as a picture"),
        (encoded(render(DIGITS[8])[..., 0], "JPEG")[:600], "cannot be read as a picture"),
        (bomb(5_000), "more than 20 megapixels"),
        (bomb(12_000), "more than 20 megapixels"),
        (bomb(100_000), "more than 20 megapixels"),
        (b"\0" * (5 * 2**20 + 1), "larger than 5 MB"),
    ],
    ids=[
        "many scans",
        "large WebP",
        "empty",
        "text",
        "PDF",
        "EPS",
        "TIFF",
        "cut PNG",
        "cut JPEG",
        "25 MP",
        "144 MP",
        "10,000 MP",
        "over 5 MB",
    ],
)
def test_what_is_no_picture_is_refused_in_one_sentence(content, says):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a warning would reach the log and not the person
        with pytest.raises(UserError, match=says) as refusal:
            preprocess.ink_from_picture(content)
    message = str(refusal.value)
    assert "choose" in message and message.count(".") == 1 and message.endswith(".")


# -- is it a digit? ---------------------------------------------------------------


@pytest.fixture(scope="module")
def familiar(sample: Mnist, shipped: CachedTeacher) -> familiarity.Familiar:
    return familiarity.Familiar(shipped.model, sample.train.take(slice(None, None, 2)))


def test_nearly_all_digits_look_like_one(sample: Mnist, familiar: familiarity.Familiar):
    assert familiar.knows(sample.validation.inputs()).float().mean() >= 0.98


@pytest.mark.parametrize("width", [12, 20, 28])
def test_drawn_digits_look_like_one(familiar: familiarity.Familiar, width: int):
    assert familiar.knows(inputs([drawn(strokes, width) for strokes in DIGITS.values()])).all()


@pytest.mark.parametrize("width", [12, 20, 28])
@pytest.mark.parametrize("drawings", [LETTERS, SCRIBBLES], ids=["letters", "scribbles"])
def test_most_letters_and_scribbles_do_not(
    familiar: familiarity.Familiar, drawings: dict[str, list[Stroke]], width: int
):
    known = familiar.knows(inputs([drawn(strokes, width) for strokes in drawings.values()]))
    assert known.float().mean() <= 0.3, [name for name, is_known in zip(drawings, known) if is_known]


def test_asking_leaves_the_teacher_in_eval_mode(sample: Mnist, shipped: CachedTeacher):
    familiarity.Familiar(shipped.model, sample.validation)
    assert not any(layer.training for layer in shipped.model.modules())


@pytest.mark.parametrize("name", ["linear", "mlp-30", "cnn-tiny", "cnn-separable", "vit-half"])
def test_any_architecture_can_be_asked(sample: Mnist, name: str):
    familiar = familiarity.Familiar(
        registry.build(name, 0).eval(), sample.train.take(slice(None, None, 4)), share=0.1
    )
    assert 0.8 < familiar.knows(sample.validation.inputs()).float().mean() < 1


class Branches(nn.Module):
    """No Sequential; its convolution does not come right before its last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.hidden, self.last = nn.Conv2d(1, 4, 7, 7), nn.Linear(64, 32), nn.Linear(32, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.last(self.hidden(self.convolution(images).flatten(1)).relu())


@pytest.mark.parametrize("name", ["cnn-tiny", "cnn-separable", "mlp-30", "vit-half", None])
def test_features_are_what_the_last_layer_sees_averaged_over_places(sample: Mnist, name: str | None):
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


def test_a_networks_own_answers_stay_as_they_were(sample: Mnist):
    model = registry.build("vit-half", 0).eval()
    familiarity.Familiar(model, sample.validation.take(slice(0, 200)))
    assert isinstance(model[-1], nn.Linear) and model(torch.zeros(1, 1, 28, 28)).shape == (1, 10)


# -- in a link -----------------------------------------------------------------


def test_a_drawing_comes_out_of_a_link_as_it_went_in():
    for strokes in DIGITS.values():
        picture = drawn(strokes)
        text = links.to_text(picture)
        assert len(text) < 800 and np.array_equal(links.from_text(text), picture)


BOMB = base64.urlsafe_b64encode(zlib.compress(bytes(10**6), 9)).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "Zm9v",
        "\N{SNOWMAN}",
        "=" * 5,
        "A" * 3_000,
        BOMB,
        links.to_text(np.zeros((28, 28), np.uint8))[:-4],
    ],
)
def test_a_damaged_drawing_in_a_link_is_refused(text):
    with pytest.raises(UserError, match="draw it again"):
        links.from_text(text)
