"""Pictures and links for the fuzz test, damaged or larger than they look."""

from __future__ import annotations

import base64
import io
import math
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from kd.drawing import links, preprocess, uploads
from tests.stage.invention import Invention

SIDE = 4470  # pixels; an image of this side has 20 megapixels


class PictureCases(Invention):
    """Cases of pictures, canvases and links to drawings."""

    pictures: list[bytes]

    def a_picture(self) -> Callable[[], Any]:
        content = self.draw.choice(self.pictures)
        if self.draw.random() < 0.85:
            content = self.damaged(content)
        return lambda: preprocess.prepare(uploads.ink_from_picture(content))

    def a_canvas(self) -> Callable[[], Any]:
        if self.draw.random() < 0.3:
            shape = self.draw.choice([(0, 0, 4), (1, 1, 4), (280, 280, 4), (3, 500, 4)])
            pixels = np.frombuffer(self.draw.randbytes(math.prod(shape)), np.uint8).reshape(shape)
            return lambda: preprocess.prepare(preprocess.ink_from_canvas(pixels))
        content = self.draw.choice(self.pictures)
        content = self.damaged(content) if self.draw.random() < 0.8 else content
        return lambda: preprocess.prepare(uploads.ink_from_canvas_file(content))

    def a_link(self) -> Callable[[], Any]:
        text = (
            links.to_text(np.frombuffer(self.draw.randbytes(784), np.uint8).reshape(28, 28))
            if self.draw.random() < 0.5
            else self.text()
        )
        if self.draw.random() < 0.7 and text:
            place = self.draw.randrange(len(text))
            text = (
                text[:place]
                + self.draw.choice(["", self.text()[:50], "A", "=", "\0"])
                + text[place + self.draw.randrange(3) :]
            )
        return lambda: links.from_text(text)


def whole_pictures() -> Iterator[bytes]:
    """Yield pictures of a digit in all formats and modes."""
    digit = np.zeros((60, 50), np.uint8)
    digit[10:50, 20:28] = 255
    for mode in ("L", "RGB", "RGBA", "P", "1", "CMYK", "LA", "I;16", "I"):
        image = (
            Image.fromarray(digit.astype(np.uint16) * 257)
            if mode == "I;16"
            else Image.fromarray(digit).convert(mode)
        )
        for format in preprocess.FORMATS:
            content = io.BytesIO()
            try:
                image.save(content, format)
            except (OSError, ValueError):
                continue
            yield content.getvalue()
    for format, more in [("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {})]:
        frames = [Image.fromarray(np.roll(digit, shift, 1)) for shift in range(5)]
        content = io.BytesIO()
        frames[0].save(content, format, save_all=True, append_images=frames[1:], **more)
        yield content.getvalue()
    content = io.BytesIO()
    Image.fromarray(digit).save(content, "JPEG", progressive=True, exif=Image.Exif().tobytes())
    yield content.getvalue()
    yield b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>"
    yield b""


def bomb(side: int) -> bytes:
    """Return a small PNG whose header claims ``side`` x ``side`` pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(10**6)))
        + chunk(b"IEND", b"")
    )


def scans(side: int) -> bytes:
    """Return a progressive JPEG that repeats its last scan as often as its maximum size allows."""
    content = io.BytesIO()
    Image.new("L", (side, side)).save(content, "JPEG", progressive=True)
    whole = content.getvalue()
    start = whole.rindex(b"\xff\xda")
    scan = whole[start:-2]
    return whole[:-2] + scan * ((preprocess.MAX_BYTES - len(whole)) // len(scan)) + b"\xff\xd9"


def pixel_runs(side: int) -> bytes:
    """Return a BMP of 20 megapixels that has 4 MB of runs of one pixel each."""
    pixels = b"\x01\x00" * 2_000_000 + b"\x00\x01"
    palette = bytes(4 * 256)
    start = 14 + 40 + len(palette)
    info = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(pixels), 0, 0, 256, 0)
    return struct.pack("<2sIHHI", b"BM", start + len(pixels), 0, 0, start) + info + palette + pixels


def worst_pictures() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield the largest pictures that are accepted, and small ones that unpack to much more."""
    noise = np.random.default_rng(0).integers(0, 2, (SIDE, SIDE), np.uint8) * 255
    for mode in ("1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I;16"):
        image = Image.new(mode, (SIDE, SIDE)) if mode != "1" else Image.fromarray(noise).convert("1")
        for format in preprocess.FORMATS:
            content = io.BytesIO()
            try:
                image.save(content, format, **({"method": 0} if format == "WEBP" else {}))
            except (OSError, ValueError):
                continue
            yield f"20 megapixels, {mode} as {format}", partial(_prepare, content.getvalue())
    read = uploads.ink_from_picture
    for mode in ("L", "RGB", "RGBA"):
        content = io.BytesIO()
        Image.new(mode, (3160, 3160)).save(content, "WEBP", method=0)
        yield f"10 megapixels, {mode} as WEBP", partial(read, content.getvalue())
    content = io.BytesIO()
    red = Image.new("RGBA", (3160, 3160), "red")
    Image.new("RGBA", (3160, 3160)).save(content, "WEBP", save_all=True, append_images=[red], method=0)
    yield "10 megapixels, an animated WEBP", partial(read, content.getvalue())
    content = io.BytesIO()
    Image.fromarray(noise[:, :4000]).save(
        content, "GIF", save_all=True, append_images=[Image.fromarray(noise[::-1, :4000])]
    )
    yield "18 megapixels, an animated GIF", partial(read, content.getvalue())
    yield "a JPEG of endless scans", partial(read, scans(SIDE))
    yield "a BMP of many runs", partial(read, pixel_runs(SIDE))
    for size in (2**31 - 1, 60_000, 14_000):
        yield "a PNG bomb", partial(read, bomb(size))
        yield "a canvas bomb", partial(uploads.ink_from_canvas_file, bomb(size))
    link = base64.urlsafe_b64encode(zlib.compress(bytes(10**6))).decode()
    yield "a link bomb", partial(links.from_text, link)


def _prepare(content: bytes) -> Any:
    return preprocess.prepare(uploads.ink_from_picture(content))
