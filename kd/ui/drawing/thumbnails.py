"""Small grey pictures within the page itself."""

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
    """The 28x28 picture that the models see, enlarged without smoothing."""
    # In the page itself: a file of its own may be gone before a slow browser asks for it, since each stroke makes another.
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    source = base64.b64encode(content.getvalue()).decode()
    st.html(
        f'<img width="140" height="140" style="image-rendering: pixelated" alt="The picture as the models see it" src="data:image/png;base64,{source}">'
    )
    st.caption(f"What the models see: {MNIST.height}×{MNIST.width}")


def row(pixels: Sequence[np.ndarray], captions: Sequence[str], width: int = 56) -> None:
    """Small grey images, (H, W) uint8 each, with a caption below each, in as many rows as they need.

    They are within the page itself: files of their own, as of st.image, are gone before the browser
    asks for them where a tick replaces them.
    """
    figures = [
        f'<figure style="margin:0;width:{width}px"><img width="{width}" style="display:block;image-rendering:pixelated;border-radius:4px" '
        f'alt="{html.escape(caption)}" src="data:image/png;base64,{base64.b64encode(pictures.png(image)).decode()}">'
        f'<figcaption style="font-size:0.75rem;opacity:0.8;text-align:center">{html.escape(caption)}</figcaption></figure>'
        for image, caption in zip(pixels, captions)
    ]
    st.html(f'<div style="display:flex;flex-wrap:wrap;gap:8px">{"".join(figures)}</div>')
