"""Plotly charts that are updated in place.

st.plotly_chart rebuilds the whole chart whenever its data change: the zoom is lost and nodes leak. This
component draws into the same node with Plotly.react and takes text and grid colours from the theme. Plotly
itself comes from the installed package, through a route of our own (kd.ui.server.assets).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import plotly
import streamlit as st

from kd.figures.base import Figure
from kd.ui import frontend

# The class names have a prefix, since the styles are not isolated: Plotly's stylesheet goes into
# the document's head and would not reach a shadow root.
_charts = st.components.v2.component(
    "kd_live_charts",
    html=frontend.read("chart.html"),
    css=frontend.read("chart.css"),
    js=frontend.script("chart.js"),
    isolate_styles=False,
)
_library = st.components.v2.component("kd_plotly", js=frontend.script("preload_plotly.js"))


def preload() -> None:
    """Let the browser load Plotly (5 MB) in advance, so that the first chart appears without delay."""
    _library(data={"plotly": plotly.__version__}, key="plotly", height=1)


def live_chart(figure: Figure, key: str, label: str) -> None:
    """Draw ``figure``, or update the chart that has this ``key`` in place.

    Args:
        figure: data and layout for Plotly. If it has a ``picture`` (a file name), visitors can download
            the chart as an image of that name.
        key: a key of the element, unique on the page.
        label: a description of the chart in words, for screen readers.
    """
    live_charts(packed({key: (figure, label)}), key)


def packed(charts: Mapping[str, tuple[Figure, str]], news: Mapping[str, Any] | None = None) -> bytes:
    """Return charts as the JSON that the component takes.

    Args:
        charts: name -> (figure, label).
        news: more fields, for spectators of a run: "progress" (share and text), "version", "state",
            "every" (seconds until the next fetch) and, in the page's own message, "follow" (the address to
            fetch).
    """
    figures = {name: figure | {"label": label} for name, (figure, label) in charts.items()}
    return json.dumps({**(news or {}), "plotly": plotly.__version__, "figures": figures}).encode()


def live_charts(
    charts: bytes,
    key: str,
    on_pick: Callable[[dict], None] | None = None,
    on_turn: Callable[[], None] | None = None,
) -> None:
    """Draw ``packed`` charts side by side, or update those that have this ``key`` in place.

    Streamlit sends bytes unchanged but serialises anything else to JSON twice for each viewer. One element
    also costs less per viewer and update than two in columns.

    Args:
        charts: the result of packed().
        key: a key of the element, unique on the page.
        on_pick: called with x and y of a point that was clicked, in figures that have ``picks`` set.
        on_turn: called when the followed run changes state; the script or fragment then reruns.
    """
    callbacks = {}
    if on_pick:
        callbacks["on_picked_change"] = lambda: on_pick(st.session_state[key]["picked"])
    if on_turn:
        callbacks["on_turned_change"] = on_turn
    _charts(data=charts, key=key, **callbacks)
