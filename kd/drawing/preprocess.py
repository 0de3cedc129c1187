"""Turn a drawing or a picture into a 28x28 image like those of MNIST.

MNIST was made by cropping each digit, scaling its longer side to 20 pixels with antialiasing, and shifting
it by whole pixels so that its centre of mass lies in the middle of 28x28 (LeCun et al. 1998). Drawings must
be treated in the same way: with a plain resize, even a network with 99.6% accuracy misclassifies them.

This file needs only NumPy and Pillow, and imports nothing of this program: every exported network comes
with a copy of it.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageOps

SIDE, DIGIT_SIDE = 28, 20
#: Mean centre of mass of MNIST's 60,000 training images, in pixel indices. Measured: 13.996 vertically and
#: 14.007 horizontally, spread evenly over +-0.5 because of the rounding to whole pixels. It is slightly less
#: than 14, because otherwise a symmetrical drawing would lie exactly between two pixels.
CENTRE = 13.999
#: Ink whose longer side is below this share of the canvas is a click, not a digit: 35 px of 280, slightly
#: more than a dot of the thickest pen (28 px). A "1" is longer.
SMALLEST = 1 / 8
#: Strokes thinner than THIN are widened to WIDENED; in pixels, at a digit height of 20.
THIN, WIDENED = 1.2, 2.0
MAX_BYTES = 5 * 2**20
MAX_PIXELS = 20_000_000
MAX_WEBP = 10_000_000  # pixels; lower, because decoding makes several copies: 20 megapixels took 302 MB
MAX_SCANS = 100  # of a JPEG; each takes a pass over all its pixels, and 5 MB can hold 200,000
#: Excludes formats that Pillow passes to another program or whose size is not in the header.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
PICTURE_SIDE = 512  # pixels; enough for a digit that fills an eighth of a photo
#: Shown where prepare() returns None for a picture.
NO_DIGIT = "No digit was found in this picture; try one with a single dark digit on light paper."


class PictureError(ValueError):
    """A file that is not a picture of use here. The message says why, in plain words."""


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


# -- from ink to the image that networks see -----------------------------------------------


def ink_from_canvas(rgba: np.ndarray) -> np.ndarray:
    """Return the ink of a canvas, (H, W) float32 from 0 to 1.

    Args:
        rgba: (H, W, 4) uint8, light strokes on black or on a transparent background.
    """
    rgba = rgba.astype(np.float32) / 255
    return rgba[..., :3].mean(2) * rgba[..., 3]


def prepare(ink: np.ndarray) -> np.ndarray | None:
    """Return ink as an image like those of MNIST, (28, 28) uint8.

    Returns None if there is no ink, or only a dot.

    Args:
        ink: (H, W) float32 from 0 to 1.
    """
    box = _crop(ink)
    if not box.size or max(box.shape) < SMALLEST * max(ink.shape):
        return None
    # Every MNIST image contains full white; faint or very thin ink would not.
    box = _thicken(box / box.max())
    scale = DIGIT_SIDE / max(box.shape)
    height, width = (max(1, round(length * scale)) for length in box.shape)
    # BOX, the plain average, reproduces enlarged MNIST images exactly. Resize the width first and then the
    # height, because Pillow 12 and 13 use different orders, and the order changes the last bit.
    narrow = Image.fromarray(box).resize((width, len(box)), Image.Resampling.BOX)
    small = np.asarray(narrow.resize((width, height), Image.Resampling.BOX))
    image = np.zeros((SIDE, SIDE), np.uint8)
    top, left = (_place(small.sum(1 - axis)) for axis in (0, 1))
    image[top : top + height, left : left + width] = np.rint(small * 255)
    return image


def _crop(ink: np.ndarray) -> np.ndarray:
    """Return the smallest part that contains all ink; an empty array if there is none."""
    rows, columns = (np.flatnonzero(ink.any(axis)) for axis in (1, 0))
    if not len(rows):
        return ink[:0, :0]
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _place(profile: np.ndarray) -> int:
    """Return where ``profile``, the ink per row or column, must start to be centred and completely inside."""
    mean = (profile * np.arange(len(profile))).sum() / profile.sum()
    return int(np.clip(round(CENTRE - mean), 0, SIDE - len(profile)))


def _thicken(box: np.ndarray) -> np.ndarray:
    """Widen very thin strokes, such as those of a ballpoint pen; leave others, and MNIST's, unchanged.

    The teacher classifies thin strokes correctly anyway, but students do not. Accuracy on drawings with a pen
    of 3 px on 280, without and with this: teacher 98.5% and 100%, mlp-128 82% and 99%, mlp-30 72% and 97%,
    linear 66% and 93%. Thinning thick strokes was tried and dropped: the teacher does not need it, and small
    students lost accuracy.
    """
    solid = box > 0.5
    beside = np.pad(solid, 1)
    inside = beside[:-2, 1:-1] & beside[2:, 1:-1] & beside[1:-1, :-2] & beside[1:-1, 2:]
    outline = solid & ~inside
    scale = DIGIT_SIDE / max(box.shape)
    width = 2 * solid.sum() / outline.sum() * scale
    if width >= THIN:
        return box
    reach = (WIDENED - width) / 2 / scale
    box = np.pad(box, int(reach) + 1)
    return _crop(np.maximum(box, _within(box > 0.5, reach)).astype(np.float32))


def _within(solid: np.ndarray, reach: float) -> np.ndarray:
    """Return which pixels lie within ``reach`` pixels of one of ``solid``, (H, W) bool."""
    columns, far = np.arange(solid.shape[1]), 2 * sum(solid.shape)
    left = np.maximum.accumulate(np.where(solid, columns, -far), 1)
    right = np.minimum.accumulate(np.where(solid, columns, far)[:, ::-1], 1)[:, ::-1]
    across = np.minimum(columns - left, right - columns)  # to the nearest solid pixel of the same row
    near = np.zeros_like(solid)
    steps = np.arange(int(reach) + 1)
    for down in steps[: len(solid)]:
        widest = steps[np.sqrt(down * down + steps * steps) <= reach].max()
        covered = across <= widest
        near[down:] |= covered[: len(covered) - down]
        near[: len(near) - down] |= covered[down:]
    return near


# -- from a picture to ink -----------------------------------------------------------------


def ink_from_picture(data: bytes) -> np.ndarray:
    """Return the ink in an image file, (H, W) float32 from 0 to 1, cropped to the ink with a margin.

    Ink may be dark on light or light on dark, and the lighting may be uneven. Without ink, all values are 0.

    Raises:
        PictureError: the file is not an image, is damaged, or exceeds 5 MB or 20 megapixels (10 for WebP).
    """
    tone = _tone(_decode(data))
    rise = _rise(tone)

    # Most of the image is paper, so the median and the deviation from it are the paper's.
    middle = np.median(rise)
    floor = middle + 5 * 1.4826 * np.median(np.abs(rise - middle))
    peak = _blurred(rise).max()  # blurred, so that no single pixel determines it
    full = np.median(rise[rise > peak / 2]) if peak > 0 else 0.0
    if full < max(0.08, 1.2 * floor):
        return np.zeros_like(tone)
    # JPEG ringing around the strokes exceeds the noise: it reaches a tenth of the ink.
    floor = max(floor, 0.1 * full)
    ink = np.where(rise > floor, np.clip(rise / full, 0, 1), 0).astype(np.float32)

    # Remove specks: spots that are nowhere dark, or small compared with the largest.
    spots, count = label(ink > 0)
    peaks = np.zeros(count + 1, np.float32)
    np.maximum.at(peaks, spots.ravel(), ink.ravel())
    weights = np.bincount(spots.ravel(), ink.ravel(), count + 1)
    ink[((peaks <= 0.5) | (weights <= 0.02 * weights.max()))[spots]] = 0
    box = _crop(ink)
    # On a canvas, the size tells a digit from a dot, but in a photo a digit may be small.
    if max(box.shape) < max(4, 0.03 * max(ink.shape)):
        return np.zeros_like(tone)
    return np.pad(box, max(box.shape) // 4)


def _decode(data: bytes) -> Image.Image:
    """Return the image upright, at most 512 px per side, in mode L or RGBA."""
    try:
        image = opened(data, FORMATS, MAX_PIXELS)
        image.draft("L", (PICTURE_SIDE, PICTURE_SIDE))  # JPEGs decode at a fraction of their size
        image = in_eight_bits(image)
        image = image.convert("RGBA" if image.has_transparency_data else "L")
        image.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
        return ImageOps.exif_transpose(image)
    except PictureError:
        raise
    except Exception:  # noqa: BLE001 - decoders of damaged files raise nearly anything
        raise unreadable() from None


def in_eight_bits(image: Image.Image) -> Image.Image:
    """Return an image of a mode wider than 8 bits as L, or as LA if it has a transparent tone; others as is.

    Pillow's convert() clips such modes: every tone above 255 would be white. The brightest tone decides how
    many bits the image uses, since scanners write 10 or 12 bits to files of 16.
    """
    if not image.mode.startswith(("I", "F")):
        return image
    clear, image = image.info.get("transparency"), ImageOps.exif_transpose(image)
    tones = np.asarray(image)
    alpha = np.where(tones == clear, 0, 255).astype(np.uint8) if isinstance(clear, int) else None
    if tones.dtype.kind == "f":
        tones = np.nan_to_num(tones, posinf=0, neginf=0)
        top = float(tones.max())
        tones = np.clip(tones, 0, None) * (255 if top <= 1 else 255 / max(255, top))
    else:
        tones = np.maximum(tones, 0)
        tones = tones >> max(0, int(tones.max()).bit_length() - 8)
    grey = Image.fromarray(tones.astype(np.uint8))
    return grey if alpha is None else Image.merge("LA", (grey, Image.fromarray(alpha)))


def opened(data: bytes, formats: tuple[str, ...], most: int) -> Image.Image:
    """Open an image of at most ``most`` pixels without decoding it.

    Raises:
        PictureError: it has none of the ``formats``, or it is too large.
    """
    if len(data) > MAX_BYTES:
        raise PictureError(f"The picture is larger than {MAX_BYTES >> 20} MB; choose a smaller one.")
    if data[:2] == b"\xff\xd8" and data.count(b"\xff\xda") > MAX_SCANS:
        raise PictureError(
            "This JPEG has too many scans; save it again in another program, or choose another picture."
        )
    if data[8:12] == b"WEBP":
        most = min(most, MAX_WEBP)
    too_large = PictureError(f"The picture has more than {most // 10**6} megapixels; choose a smaller one.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=formats)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise too_large from None
    except Exception:  # noqa: BLE001
        raise unreadable() from None
    if image.width * image.height > most:
        raise too_large
    return image


def unreadable() -> PictureError:
    return PictureError("This file cannot be read as a picture; choose a PNG, JPEG, WebP, BMP or GIF.")


def _tone(image: Image.Image) -> np.ndarray:
    """Return brightness, (H, W) float32 from 0 (black) to 1 (white); transparent parts get the border's."""
    tone = np.asarray(image.convert("L"), np.float32) / 255
    if image.mode == "L":
        return tone
    alpha = np.asarray(image.getchannel("A"), np.float32) / 255
    frame = np.ones_like(alpha, bool)
    frame[1:-1, 1:-1] = False
    visible = alpha > 0.5
    if (frame & visible).sum() * 2 > frame.sum():
        behind = float(np.median(tone[frame & visible]))
    else:
        # A transparent border has no brightness: use the one that contrasts with the rest.
        behind = 0.0 if visible.any() and np.median(tone[visible]) > 0.5 else 1.0
    return tone * alpha + behind * (1 - alpha)


def _rise(tone: np.ndarray) -> np.ndarray:
    """Return how far each pixel stands out from the paper, (H, W): about 0 for paper, up to 1 for ink.

    The ink may be darker or lighter than the paper.
    """
    edges = np.concatenate([tone[0], tone[-1], tone[:, 0], tone[:, -1]])
    even = np.ptp(np.quantile(edges, [0.1, 0.9])) < 0.03
    light = np.full_like(tone, np.median(edges)) if even else _light(tone)
    rest = tone - light
    border = np.median(np.concatenate([rest[0], rest[-1], rest[:, 0], rest[:, -1]]))
    darkest, lightest = np.quantile(rest, [0.002, 0.998])
    # Ink is what lies farther from the border's brightness. From here on, ink is lighter than paper.
    if border - darkest > lightest - border:
        rest, light = -rest, 1 - light
    # A morphological opening wider than any stroke follows the edges of shadows.
    paper = np.zeros_like(rest) if even else _opening(rest, max(3, max(rest.shape) // 3))
    # In the shade ink takes away less light, but the same share of it.
    return (rest - paper) / np.maximum(1 - light - paper, 0.2)


def _light(tone: np.ndarray) -> np.ndarray:
    """Return the quadratic surface, (H, W), that fits most of the image; ink hardly influences it."""

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


# -- image processing ----------------------------------------------------------------------


def label(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the number of each pixel's connected part, (H, W) int, and how many parts there are.

    Outside ``mask``, (H, W) bool, the number is 0. Pixels that share an edge or a corner are connected. Parts
    are numbered by their first pixel, row by row.
    """
    change = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    (rows, starts), ends = np.nonzero(change == 1), np.nonzero(change == -1)[1]
    # Runs of neighbouring rows touch if neither ends before the other starts.
    stride = mask.shape[1] + 2
    low = np.searchsorted(rows * stride + ends, (rows + 1) * stride + starts, "left")
    high = np.searchsorted(rows * stride + starts, (rows + 1) * stride + ends, "right")
    touching = np.maximum(high - low, 0)
    upper = np.repeat(np.arange(len(rows)), touching)
    lower = np.arange(len(upper)) - np.repeat(np.cumsum(touching) - touching, touching) + low[upper]
    first = np.arange(len(rows))  # the first run of the part that each run belongs to, as far as known
    while (first[upper] != first[lower]).any():
        pair = first[upper], first[lower]
        for place in pair:
            np.minimum.at(first, place, np.minimum(*pair))
        while (first[first] != first).any():
            first = first[first]
    known, part = np.unique(first, return_inverse=True)
    labels = np.zeros(mask.shape, np.intp)
    labels[mask] = np.repeat(part + 1, ends - starts)
    return labels, len(known)


def _blurred(values: np.ndarray) -> np.ndarray:
    """Return ``values``, (H, W), blurred by a Gaussian with a standard deviation of 1."""
    weights = np.exp(-0.5 * np.arange(-4, 5) ** 2)
    for _ in range(2):
        padded = np.pad(values, ((4, 4), (0, 0)), "symmetric")
        parts = [weight * padded[place : place + len(values)] for place, weight in enumerate(weights)]
        values = (sum(parts) / weights.sum()).T
    return values


def _opening(values: np.ndarray, size: int) -> np.ndarray:
    """Return the greyscale opening of ``values``, (H, W), by a square of ``size``."""
    before, after = size // 2, size - 1 - size // 2
    return _over_squares(_over_squares(values, before, after, np.minimum), after, before, np.maximum)


def _over_squares(values: np.ndarray, before: int, after: int, extreme: Callable) -> np.ndarray:
    """Return the ``extreme`` of each pixel's square, which reaches from ``before`` to ``after`` it."""
    size = before + after + 1
    for _ in range(2):
        window, reach = np.pad(values, ((before, after), (0, 0)), "symmetric"), 1
        while 2 * reach <= size:
            window = extreme(window[:-reach], window[reach:])
            reach *= 2
        rest = size - reach
        values = extreme(window[: len(values)], window[rest : rest + len(values)]).T
    return values
