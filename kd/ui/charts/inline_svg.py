"""A drawing in the page itself, so that it takes the text's colour and font from the theme.

st.html drops SVG, and st.image shows it as a file of its own, which knows nothing of
the page around it.
"""

from __future__ import annotations

import streamlit as st

_picture = st.components.v2.component(
    "kd_picture",
    html='<div class="kd-picture"></div>',
    css=".kd-picture {\n  color: var(--st-text-color);\n  font-family: var(--st-font);\n}",
    js="""
export default function ({ data, parentElement }) {
  const div = parentElement.querySelector(".kd-picture")
  if (div.shown !== data.svg) div.innerHTML = div.shown = data.svg
}
""",
)


def picture(svg: str, key: str) -> None:
    """Shows ``svg``, which must be of our own making: it becomes part of the page as it is."""
    _picture(data={"svg": svg}, key=key)
