"""Small greyscale pictures embedded in the page."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

import numpy as np
import streamlit as st
from PIL import Image

from kd.data.task import MNIST
from kd.lab import pictures


def model_view(pixels: np.ndarray) -> None:
    """Show the picture as the models see it, enlarged without smoothing.

    The picture is embedded in the page: each stroke makes a new one, and a separate file may be gone before a
    slow browser requests it.
    """
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    source = base64.b64encode(content.getvalue()).decode()
    st.html(
        '<img width="140" height="140" style="image-rendering: pixelated" '
        'alt="The picture as the models see it" '
        f'src="data:image/png;base64,{source}">'
    )
    st.caption(f"What the models see: {MNIST.height}×{MNIST.width}")


def row(pixels: Sequence[np.ndarray], captions: Sequence[str], width: int = 56) -> None:
    """Show small grey images, (H, W) uint8 each, with a caption below each, in as many rows as they need.

    The images are embedded in the page: on a page that updates itself, the separate files that st.image makes
    may be replaced before the browser requests them.
    """
    figures = []
    for image, caption in zip(pixels, captions):
        source = base64.b64encode(pictures.png(image)).decode()
        figures.append(
            f'<figure style="margin:0;width:{width}px"><img width="{width}" '
            'style="display:block;image-rendering:pixelated;border-radius:4px" '
            f'alt="{html.escape(caption)}" src="data:image/png;base64,{source}">'
            '<figcaption style="font-size:0.75rem;opacity:0.8;text-align:center">'
            f"{html.escape(caption)}</figcaption></figure>"
        )
    st.html(f'<div style="display:flex;flex-wrap:wrap;gap:8px">{"".join(figures)}</div>')
