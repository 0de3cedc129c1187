"""A network that runs in the visitor's own browser with ONNX Runtime Web; drawings never leave it."""

from __future__ import annotations

import base64
import json

import streamlit as st

from kd.data.task import MNIST
from kd.drawing import oddities, preprocess
from kd.ui import frontend
from kd.ui.drawing import canvas

NOT_INSTALLED = (
    "ONNX Runtime Web is not installed, so this network cannot run in your browser; the server classifies "
    "drawings as usual. To install it, run `make frontend` in the app's folder on the server and reload "
    "this page."
)

_panel = st.components.v2.component(
    "kd_in_browser",
    html=frontend.read("in_browser.html"),
    css=frontend.read("in_browser.css"),
    js=frontend.script("in_browser.js"),
    isolate_styles=False,
)


def show(model: bytes, check: bytes, server: float, key: str) -> None:
    """Show a canvas whose drawings the browser classifies, or how to install ONNX Runtime Web.

    Args:
        model: an ONNX file as kd.export.formats.to_onnx() makes it.
        check: an ONNX file as kd.export.formats.digit_check() makes it, to tell digits from other drawings.
        server: seconds per image on the server, for comparison.
        key: a key of the element, unique on the page.
    """
    if not frontend.onnx_runtime_web_is_installed():
        st.info(NOT_INSTALLED)
        return
    data = {
        "model": base64.b64encode(model).decode(),
        "check": base64.b64encode(check).decode(),
        "serverMilliseconds": 1e3 * server,
        "canvasSize": canvas.SIZE,
        "penWidth": canvas.PEN,
        "preprocessing": preprocess.constants(),
        "oddities": oddities.constants(),
        "warnings": oddities.WARNINGS,
        "classes": MNIST.class_names,
    }
    # Streamlit sends bytes unchanged; it would serialise a dictionary to JSON twice.
    _panel(data=json.dumps(data).encode(), key=key)
