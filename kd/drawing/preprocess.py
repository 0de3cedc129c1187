"""From a drawing or a photo to the 28x28 image that a model was trained on, and whether it is a digit at all.

MNIST was made by cropping each digit, scaling its longer side to 20 pixels with
antialiasing, and shifting it by whole pixels so that its centre of mass lies in the
middle of 28x28 (LeCun et al. 1998). Anything drawn must take the same way: with a
plain resize even a model of 99.6% misreads it.
"""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image, ImageOps
from scipy import ndimage

from kd.data.task import MNIST
from kd.errors import UserError

SIDE, DIGIT_SIDE = MNIST.height, 20
#: Mean centre of mass of MNIST's 60,000 training images, in pixel indices: 13.996 down
#: and 14.007 across, spread evenly over +-0.5 by the rounding to whole pixels.
#: A hair less than 14, since a symmetrical drawing would lie just between two places.
CENTRE = 13.999
#: Ink whose longer side is under this share of the canvas is a click, not a digit:
#: 35 px of 280, just more than a dot of the thickest pen (28 px). A "1" is longer.
SMALLEST = 1 / 8
#: Strokes are widened where they are thinner than the first, to the second; in pixels of 20.
THIN, WIDENED = 1.2, 2.0
MAX_BYTES = 5 * 2**20
MAX_PIXELS = 20_000_000
MAX_CANVAS = 2_000_000  # pixels; a canvas of 280 on a screen with three pixels for each has 0.7 million
MAX_WEBP = 10_000_000  # pixels, since it is decoded with several copies: 20 megapixels took 302 MB
MAX_SCANS = 100  # of a JPEG; each costs a pass over all its pixels, and 5 MB hold 200,000
#: No format that Pillow hands to another program, or whose size is not in its header.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
PICTURE_SIDE = 512  # enough for a digit that fills an eighth of a photo


def constants() -> dict[str, float]:
    """Return the numbers that prepare() depends on, by their names in kd/ui/frontend/preprocess.js."""
    return {
        "side": SIDE,
        "digitSide": DIGIT_SIDE,
        "centre": CENTRE,
        "smallest": SMALLEST,
        "thin": THIN,
        "widened": WIDENED,
    }


def ink_from_canvas(rgba: np.ndarray) -> np.ndarray:
    """(H, W, 4) uint8 RGBA, light strokes on black or on nothing -> (H, W) float32 ink, 0 to 1."""
    rgba = rgba.astype(np.float32) / 255
    return rgba[..., :3].mean(2) * rgba[..., 3]


def ink_from_canvas_file(data: bytes) -> np.ndarray:
    """The PNG that a browser sends of its canvas -> (H, W) float32 ink, as ink_from_canvas().

    Raises:
        UserError: it is none, or larger than any canvas.
    """
    return ink_from_canvas(_pixels(data, MAX_CANVAS, "RGBA"))


def grey(data: bytes, most: int) -> np.ndarray:
    """A PNG file of at most ``most`` pixels -> (H, W) uint8.

    Raises:
        UserError: it is none.
    """
    return _pixels(data, most, "L")


def _pixels(data: bytes, most: int, mode: str) -> np.ndarray:
    image = _opened(data, ("PNG",), most)
    try:
        return np.asarray(image.convert(mode))
    except Exception:  # noqa: BLE001 - as in _decode()
        raise _unreadable() from None


def prepare(ink: np.ndarray) -> np.ndarray | None:
    """(H, W) float32 ink, 0 to 1 -> (28, 28) uint8 as MNIST's, or None where nothing or only a dot was drawn."""
    box = _crop(ink)
    if not box.size or max(box.shape) < SMALLEST * max(ink.shape):
        return None
    # Every image of MNIST reaches full white; faint or hair-thin ink would not.
    box = _thicken(box / box.max())
    scale = DIGIT_SIDE / max(box.shape)
    height, width = (max(1, round(length * scale)) for length in box.shape)
    # BOX, the plain average, gives enlarged MNIST images back exactly.
    # Width first, then height: Pillow 12 and 13 differ in which comes first, which shows in the last bit.
    narrow = Image.fromarray(box).resize((width, len(box)), Image.Resampling.BOX)
    small = np.asarray(narrow.resize((width, height), Image.Resampling.BOX))
    image = np.zeros((SIDE, SIDE), np.uint8)
    top, left = (_place(small.sum(1 - axis)) for axis in (0, 1))
    image[top : top + height, left : left + width] = np.rint(small * 255)
    return image


def _crop(ink: np.ndarray) -> np.ndarray:
    """The smallest part with all the ink; of shape (0, 0) where there is none."""
    rows, columns = (np.flatnonzero(ink.any(axis)) for axis in (1, 0))
    if not len(rows):
        return ink[:0, :0]
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _place(profile: np.ndarray) -> int:
    """Where ``profile``, the ink per row or column, starts so that its mean is central and all of it inside."""
    mean = (profile * np.arange(len(profile))).sum() / profile.sum()
    return int(np.clip(round(CENTRE - mean), 0, SIDE - len(profile)))


def _thicken(box: np.ndarray) -> np.ndarray:
    """Hair-thin strokes, as of a ballpoint on paper, widened; all others, MNIST's among them, stay as they are.

    The teacher reads thin strokes anyway, students do not: of drawings with a pen of 3 px on
    280 the teacher read 98.5% without this and all with it, mlp-128 82% and 99%, mlp-30 72%
    and 97%, the linear student 66% and 93%. Thinning thick strokes was tried too and left
    out: the teacher does not need it and small students lost by it.
    """
    solid = box > 0.5
    outline = solid & ~ndimage.binary_erosion(solid)
    scale = DIGIT_SIDE / max(box.shape)
    width = 2 * solid.sum() / outline.sum() * scale
    if width >= THIN:
        return box
    reach = (WIDENED - width) / 2 / scale
    box = np.pad(box, int(reach) + 1)
    return _crop(np.maximum(box, ndimage.distance_transform_edt(box <= 0.5) <= reach).astype(np.float32))


def ink_from_picture(data: bytes) -> np.ndarray:
    """A picture file -> (H, W) float32 ink, 0 to 1, cropped to the ink with a margin; all 0 where there is none.

    Ink may be dark on light or light on dark; light may fall unevenly.

    Raises:
        UserError: not a picture, damaged, or larger than 5 MB or 20 megapixels; 10 of a WebP.
    """
    tone = _tone(_decode(data))
    rise = _rise(tone)

    # Paper is most of a picture, so the median and its deviation are the paper's.
    middle = np.median(rise)
    floor = middle + 5 * 1.4826 * np.median(np.abs(rise - middle))
    peak = ndimage.gaussian_filter(rise, 1).max()  # blurred, so that no single pixel sets it
    full = np.median(rise[rise > peak / 2]) if peak > 0 else 0.0
    if full < max(0.08, 1.2 * floor):
        return np.zeros_like(tone)
    # A JPEG's ringing around the strokes is above the noise: up to a tenth of the ink.
    floor = max(floor, 0.1 * full)
    ink = np.where(rise > floor, np.clip(rise / full, 0, 1), 0).astype(np.float32)

    # Specks: spots that are nowhere dark, or small beside the largest.
    spots, count = ndimage.label(ink, np.ones((3, 3)))
    each = np.arange(1, count + 1)
    weight, peak = ndimage.sum(ink, spots, each), ndimage.maximum(ink, spots, each)
    ink[~np.isin(spots, each[(peak > 0.5) & (weight > 0.02 * weight.max())])] = 0
    box = _crop(ink)
    # On a canvas the frame tells a digit from a dot, but in a photo a digit may be small.
    if max(box.shape) < max(4, 0.03 * max(ink.shape)):
        return np.zeros_like(tone)
    return np.pad(box, max(box.shape) // 4)


def _decode(data: bytes) -> Image.Image:
    """The picture upright, at most 512 px a side, in mode L or RGBA."""
    try:
        image = _opened(data, FORMATS, MAX_PIXELS)
        image.draft("L", (PICTURE_SIDE, PICTURE_SIDE))  # JPEGs decode at a fraction of their size
        image = image.convert("RGBA" if image.has_transparency_data else "L")
        image.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
        return ImageOps.exif_transpose(image)
    except UserError:
        raise
    except Exception:  # noqa: BLE001 - decoders of damaged files raise nearly anything
        raise _unreadable() from None


def _opened(data: bytes, formats: tuple[str, ...], most: int) -> Image.Image:
    """The picture before it is decoded, of at most ``most`` pixels.

    Raises:
        UserError: it is none of ``formats``, or too large.
    """
    if len(data) > MAX_BYTES:
        raise UserError(f"The picture is larger than {MAX_BYTES >> 20} MB; choose a smaller one.")
    if data[:2] == b"\xff\xd8" and data.count(b"\xff\xda") > MAX_SCANS:
        raise UserError(
            "This JPEG is built of very many scans; save it anew in another program, or choose another picture."
        )
    if data[8:12] == b"WEBP":
        most = min(most, MAX_WEBP)
    too_large = UserError(f"The picture has more than {most // 10**6} megapixels; choose a smaller one.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=formats)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise too_large from None
    except Exception:  # noqa: BLE001
        raise _unreadable() from None
    if image.width * image.height > most:
        raise too_large
    return image


def _unreadable() -> UserError:
    return UserError("This file cannot be read as a picture; choose a PNG, JPEG, WebP, BMP or GIF.")


def _tone(image: Image.Image) -> np.ndarray:
    """(H, W) float32, 0 black to 1 white; what is transparent takes the border's tone."""
    tone = np.asarray(image.convert("L"), np.float32) / 255
    if image.mode == "L":
        return tone
    alpha = np.asarray(image.getchannel("A"), np.float32) / 255
    frame = np.ones_like(alpha, bool)
    frame[1:-1, 1:-1] = False
    visible = alpha > 0.5
    if (frame & visible).sum() * 2 > frame.sum():
        behind = np.median(tone[frame & visible])
    else:
        # A border that is transparent has no tone: take the one that the rest stands out from.
        behind = 0.0 if visible.any() and np.median(tone[visible]) > 0.5 else 1.0
    return tone * alpha + behind * (1 - alpha)


def _rise(tone: np.ndarray) -> np.ndarray:
    """(H, W) how far the ink stands out from the paper: about 0 for paper, up to 1; the ink may be dark or light."""
    edges = np.concatenate([tone[0], tone[-1], tone[:, 0], tone[:, -1]])
    even = np.ptp(np.quantile(edges, [0.1, 0.9])) < 0.03
    light = np.full_like(tone, np.median(edges)) if even else _light(tone)
    rest = tone - light
    border = np.median(np.concatenate([rest[0], rest[-1], rest[:, 0], rest[:, -1]]))
    darkest, lightest = np.quantile(rest, [0.002, 0.998])
    # Ink is whatever lies farther from the border's tone. From here on it is the lighter.
    if border - darkest > lightest - border:
        rest, light = -rest, 1 - light
    # An opening wider than any stroke follows the edges of shadows.
    paper = np.zeros_like(rest) if even else ndimage.grey_opening(rest, max(3, max(rest.shape) // 3))
    # In the shade ink takes away less; as a share of what the paper gives it is the same.
    return (rest - paper) / np.maximum(1 - light - paper, 0.2)


def _light(tone: np.ndarray) -> np.ndarray:
    """(H, W) the smooth surface, of second degree, that most of the picture lies on; ink hardly moves it."""

    def terms(height: int, width: int) -> np.ndarray:
        y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], -1)

    coarse = Image.fromarray(tone)
    coarse.thumbnail((64, 64), Image.Resampling.BOX)
    values = np.asarray(coarse).ravel()
    basis = terms(coarse.height, coarse.width).reshape(-1, 6)
    weights = np.ones_like(values)
    for _ in range(15):  # least absolute deviations by reweighting
        surface = np.linalg.lstsq(basis * weights[:, None], values * weights, rcond=None)[0]
        weights = 1 / np.sqrt(np.maximum(np.abs(values - basis @ surface), 0.005))
    return (terms(*tone.shape) @ surface).astype(np.float32)
