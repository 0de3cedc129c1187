"""The drawing that all pages share: strokes on a canvas, and the 28x28 picture made of them."""

from __future__ import annotations

import numpy as np
import streamlit as st
from streamlit_drawable_canvas import st_canvas

from kd.drawing import preprocess, uploads
from kd.ui import frontend
from kd.ui.drawing import thumbnails
from kd.ui.shell import session_keys, url_state

SIZE = 280
PEN = 20

_bin = st.components.v2.component(
    "kd_canvas_bin", html="<span></span>", js=frontend.script("canvas_bin.js"), isolate_styles=False
)


def canvas(page: str) -> np.ndarray | None:
    """Show the canvas; return the drawing as models see it, (28, 28) uint8, or None if it is empty.

    The strokes are kept when the page changes. A new canvas reports its picture only after the next stroke,
    so the picture is kept as well.
    """
    kept = _kept()
    if kept["page"] != page:
        # Frozen for this visit: a changed initial drawing would reset the canvas.
        kept.update(page=page, initial=kept["strokes"], visit=kept["visit"] + 1)
    try:
        with st.container(key="kd_pen", gap=None):
            result = st_canvas(
                stroke_width=PEN,
                stroke_color="#FFFFFF",
                background_color="#000000",
                height=SIZE,
                width=SIZE,
                initial_drawing=kept["initial"],
                return_image_data=True,
                key=f"canvas_{page}_{kept['visit']}",
            )
            # The canvas' own bin would bring back the drawing that it began with.
            _bin(
                data={"restored": bool((kept["initial"] or {}).get("objects"))},
                key=f"bin_{page}",
                on_emptied_change=clear,
                height=1,
            )
        png, strokes = result.image_bytes, dict(result.json_data or {})
        if png is not None and png != kept["png"]:
            kept.update(
                png=png, strokes=strokes, picture=preprocess.prepare(uploads.ink_from_canvas_file(png))
            )
    # A UserError is a ValueError. The canvas itself never sends such data.
    except (AttributeError, TypeError, KeyError, ValueError):
        st.error("The drawing did not arrive completely. Draw it again.")
    if kept["picture"] is not None and kept["png"] is None:  # a picture without strokes
        thumbnails.model_view(kept["picture"])
        st.caption(kept["caption"] + ("" if url_state.presenting() else " Draw another one above."))
    return kept["picture"]


def drawn() -> np.ndarray | None:
    """Return the drawing as canvas() last returned it."""
    return _kept()["picture"]


def show(picture: np.ndarray, caption: str = "The drawing in the link.") -> None:
    """Use ``picture``, (28, 28) uint8, as the drawing until the visitor draws; ``caption`` describes it."""
    _kept().update(picture=picture, png=None, strokes=None, page=None, caption=caption)


def clear() -> None:
    """Discard the drawing."""
    _kept().update(picture=None, png=None, strokes=None, page=None)


def _kept() -> dict:
    empty = {
        "page": None,
        "strokes": None,
        "initial": None,
        "png": None,
        "picture": None,
        "caption": "",
        "visit": 0,
    }
    return st.session_state.setdefault(session_keys.DRAWING, empty)
