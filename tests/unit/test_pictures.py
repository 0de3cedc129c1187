"""Test how photos and image files become images like those of MNIST, and which files are refused."""

from __future__ import annotations

import ast
import io
import struct
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from kd import paths
from kd.data.digits import Mnist
from kd.data.task import MNIST
from kd.drawing import preprocess, uploads
from kd.errors import UserError
from kd.teachers.cached import CachedTeacher
from tests.drawings import answers, box, drawn
from tests.strokes import DIGITS, Stroke, render

# -- pictures ---------------------------------------------------------------------


def encoded(pixels: np.ndarray, form: str = "PNG", mode: str | None = None, **options) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(file, form, **options)
    return file.getvalue()


def photo(strokes: list[Stroke], depth: float = 0.7) -> np.ndarray:
    """Return a photo, (300, 400) uint8: ink on unevenly lit paper, with camera noise.

    Args:
        depth: the share of the light that the ink absorbs.
    """
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
    """Return each digit in white on black, (280, 280) uint8."""
    return {digit: render(strokes)[..., 0] for digit, strokes in DIGITS.items()}


def prepared(pictures: list[bytes]) -> list[np.ndarray]:
    return [preprocess.prepare(uploads.ink_from_picture(picture)) for picture in pictures]


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
def test_dark_on_light_equals_light_on_dark(clean, form):
    light_on_dark = prepared([encoded(pixels, form) for pixels in clean.values()])
    dark_on_light = prepared([encoded(255 - pixels, form) for pixels in clean.values()])
    expected = [preprocess.prepare(pixels.astype(np.float32) / 255) for pixels in clean.values()]
    for light, dark, wanted in zip(light_on_dark, dark_on_light, expected):
        assert np.abs(light.astype(int) - dark).mean() < 4
        assert np.abs(light.astype(int) - wanted).mean() < 4


@pytest.mark.parametrize("mode", ["RGB", "P", "1", "LA", "RGBA", "I;16"])
def test_every_colour_mode_is_read(clean, mode):
    picture = (
        encoded((255 - clean[5]).astype(np.uint16) * 257)
        if mode == "I;16"
        else encoded(255 - clean[5], mode=mode)
    )
    assert np.abs(prepared([picture])[0].astype(int) - drawn(DIGITS[5])).mean() < 4


@pytest.mark.parametrize("depth", [0.7, 0.3], ids=["pen", "pencil"])
def test_digits_in_photos_are_classified(shipped: CachedTeacher, depth: float):
    pictures = [encoded(photo(strokes, depth), "JPEG", quality=60) for strokes in DIGITS.values()]
    assert answers(shipped, prepared(pictures)) == list(DIGITS)


def test_paper_becomes_exactly_black():
    picture = prepared([encoded(photo(DIGITS[1]), "JPEG", quality=60)])[0]
    _, _, height, width = box(picture)
    assert height == 20 and width < 8  # with anything but the stroke, the box would be wider


def test_specks_are_removed(clean):
    dirty = 255 - clean[3]
    dirty[5:9, 5:9] = dirty[270:274, 20:23] = 0
    assert (prepared([encoded(dirty)])[0] == prepared([encoded(255 - clean[3])])[0]).all()


def test_digit_may_be_small_in_its_photo(clean, shipped: CachedTeacher):
    page = np.full((1400, 1000), 235, np.uint8)
    page[900:1180, 600:880] = 235 - (clean[4] * 0.8).astype(np.uint8)
    assert answers(shipped, prepared([encoded(page)])) == [4]


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_rotation_in_exif_is_undone(clean, form):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored rotated to the left: rotate to the right to view
    turned = encoded(np.rot90(255 - clean[7]), form, exif=exif)
    assert np.abs(prepared([turned])[0].astype(int) - prepared([encoded(255 - clean[7], form)])[0]).mean() < 4


@pytest.mark.parametrize("ink", [0, 255], ids=["black strokes", "white strokes"])
@pytest.mark.parametrize("hidden", [0, 255])
def test_strokes_on_a_transparent_image_are_read(clean, ink, hidden):
    rgba = np.full((280, 280, 4), hidden, np.uint8)
    rgba[clean[2] > 0, :3] = ink
    rgba[..., 3] = clean[2]
    assert np.abs(prepared([encoded(rgba)])[0].astype(int) - drawn(DIGITS[2])).mean() < 4


def test_transparent_hole_is_not_ink(clean):
    rgba = np.dstack([255 - clean[2]] * 3 + [np.full((280, 280), 255, np.uint8)])
    rgba[20:60, 20:60] = 0  # transparent, and black underneath
    assert np.abs(prepared([encoded(rgba)])[0].astype(int) - drawn(DIGITS[2])).mean() < 4


@pytest.mark.parametrize("inverted", [False, True])
def test_mnist_images_survive_as_files(sample: Mnist, shipped: CachedTeacher, inverted: bool):
    digits = sample.train.take(slice(None, None, 20))
    pictures = prepared([encoded(255 - image if inverted else image) for image in digits.images.numpy()])
    agree = torch.tensor(answers(shipped, pictures)) == shipped.logits(digits).argmax(1)
    assert (~agree).sum() <= 1  # an image on which the teacher is unsure may change


@pytest.mark.parametrize("tone", [0, 128, 255])
def test_blank_image_has_no_ink(tone):
    assert prepared([encoded(np.full((200, 300), tone, np.uint8))]) == [None]
    assert prepared([encoded(photo([]), "JPEG")]) == [None]


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (2, 2), (3, 4000)])
def test_odd_shapes_raise_no_warning(shape):
    random = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for pixels in (random, np.zeros(shape, np.uint8)):
            ink = uploads.ink_from_picture(encoded(pixels))
            assert ink.ndim == 2 and np.isfinite(ink).all()
            preprocess.prepare(ink)


def bomb(side: int) -> bytes:
    """Return a PNG of a few bytes whose header claims ``side`` x ``side`` pixels."""

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
    """Return a progressive JPEG with ``count`` extra scans, each of which takes a pass over all pixels."""
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
def test_files_that_no_canvas_sends_are_refused(content):
    with pytest.raises(UserError, match="cannot be read as a picture|more than 2 megapixels"):
        uploads.ink_from_canvas_file(content)


def test_canvas_of_size_zero_gives_none():
    assert preprocess.prepare(np.zeros((0, 0), np.float32)) is None


@pytest.mark.parametrize(
    "content, says",
    [
        (scans(1000), "too many scans"),
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
def test_other_files_are_refused_in_one_sentence(content, says):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a warning would reach the log, but not the user
        with pytest.raises(UserError, match=says) as refusal:
            uploads.ink_from_picture(content)
    message = str(refusal.value)
    assert "choose" in message and message.count(".") == 1 and message.endswith(".")


# -- real scans and exports of other programs -------------------------------------------------

CASES = Path(__file__).parents[1] / "cases" / "pictures"
SEVENS = sorted(path.name for path in CASES.iterdir() if not path.name.startswith(("blank", "two")))


@pytest.mark.parametrize("name", SEVENS)
def test_seven_in_any_kind_of_file_is_read(name, shipped: CachedTeacher):
    assert answers(shipped, prepared([(CASES / name).read_bytes()])) == [7]


@pytest.mark.parametrize("name", ["blank_black.png", "blank_white.png"])
def test_blank_case_has_no_ink(name):
    assert prepared([(CASES / name).read_bytes()]) == [None]


@pytest.mark.parametrize(
    "tones, expected",
    [
        (np.array([[0, 65535], [32768, 256]], np.uint16), [[0, 255], [128, 1]]),
        (np.array([[0, 4095], [2048, 16]], np.uint16), [[0, 255], [128, 1]]),  # 12 bits
        (np.array([[0, 200], [100, 10]], np.uint16), [[0, 200], [100, 10]]),  # 8 bits in a file of 16
        (np.array([[0, 65535], [32768, -5]], np.int32), [[0, 255], [128, 0]]),
        (np.array([[0, 1], [0.5, -1]], np.float32), [[0, 255], [127, 0]]),
        (np.array([[0, 65535], [32768, np.nan]], np.float32), [[0, 255], [127, 0]]),
        (np.array([[0, 255], [100, np.inf]], np.float32), [[0, 255], [100, 0]]),
        (np.zeros((2, 2), np.uint16), [[0, 0], [0, 0]]),
    ],
    ids=["I;16", "12 bits", "8 bits", "I", "F to 1", "F to 65535", "F to 255", "black"],
)
def test_wide_modes_are_scaled_to_eight_bits(tones, expected):
    image = Image.fromarray(tones)
    assert image.mode in ("I;16", "I", "F")
    scaled = preprocess.in_eight_bits(image)
    assert scaled.mode == "L" and np.asarray(scaled).tolist() == expected


def test_kept_drawing_of_16_bits_is_scaled():
    tones = np.array([[0, 65535], [32768, 257]], np.uint16)
    assert uploads.grey(encoded(tones), 4).tolist() == [[0, 255], [128, 1]]


def test_rotation_of_a_16_bit_scan_is_undone(clean):
    exif = Image.Exif()
    exif[0x0112] = 6
    wide = (255 - clean[7]).astype(np.uint16) * 257
    turned, upright = encoded(np.ascontiguousarray(np.rot90(wide)), exif=exif), encoded(wide)
    assert np.abs(prepared([turned])[0].astype(int) - prepared([upright])[0]).mean() < 4


# -- the parts that SciPy would do ------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (2, 2), (3, 90), (37, 64)])
def test_image_processing_equals_scipy(shape):
    random = np.random.default_rng(0)
    values = random.random(shape).astype(np.float32)
    for size in (3, 4, 8, 33):
        assert (preprocess._opening(values, size) == ndimage.grey_opening(values, size)).all()
    assert preprocess._blurred(values) == pytest.approx(ndimage.gaussian_filter(values, 1), abs=1e-6)
    for density in (0.1, 0.4, 0.6, 1):
        mask = random.random(shape) < density
        expected, count = ndimage.label(mask, np.ones((3, 3)))
        labels, found = preprocess.label(mask)
        assert found == count and (labels == expected).all()
        for reach in (0.3, 1.0, 1.5, 5.0) if mask.any() else ():
            distance = ndimage.distance_transform_edt(~mask)
            assert (preprocess._within(mask, reach) == (distance <= reach)).all()


def test_exported_files_need_only_numpy_and_pillow():
    for path, allowed in (("preprocess", {"numpy", "PIL"}), ("oddities", {"numpy"})):
        tree = ast.parse((paths.PACKAGE / "drawing" / f"{path}.py").read_text())
        imported = {
            alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
        }
        imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert {name.split(".")[0] for name in imported} - set(sys.stdlib_module_names) == allowed
    assert preprocess.SIDE == MNIST.height == MNIST.width
