"""A button for full screen. Browsers allow it only to a press or a key in the page itself, so it cannot go by the server."""

from __future__ import annotations

import streamlit as st

_JS = """
const typing = (event) => event.composedPath().some((node) => /^(INPUT|TEXTAREA|SELECT)$/.test(node.tagName) || node.isContentEditable)

const turn = () => (document.fullscreenElement ? document.exitFullscreen() : document.documentElement.requestFullscreen()).catch(() => {})

export default function ({ data, parentElement }) {
  const button = parentElement.querySelector(".kd-full-screen")
  button.hidden = !document.fullscreenEnabled  // phones: there it is a thing of videos
  if (button.ready) return
  button.ready = new AbortController()
  const { signal } = button.ready
  button.addEventListener("click", turn, { signal })
  document.addEventListener("keydown", (event) => {
    if (!button.isConnected) return button.ready.abort()
    if (event.key.toUpperCase() !== data.key || event.repeat || event.ctrlKey || event.metaKey || event.altKey || typing(event)) return
    turn()
  }, { signal })
}
"""
_CSS = """
.kd-full-screen {
  padding: 0 0.25rem; min-height: 2rem; border: 0; background: none; color: var(--st-text-color); cursor: pointer;
  font-family: var(--st-font); font-size: 0.75rem; white-space: nowrap;
}
.kd-full-screen:hover { color: var(--st-primary-color); }
.kd-full-screen kbd { font: inherit; padding-left: 0.4em; opacity: 0.8; }
.kd-full-screen[hidden] { display: none; }
"""
_HTML = """<button type="button" class="kd-full-screen">
<svg width="1em" height="1em" viewBox="0 0 16 16" fill="none" stroke="currentColor" stroke-width="1.6" aria-hidden="true">
  <path d="M1 5V1h4M11 1h4v4M15 11v4h-4M5 15H1v-4"/></svg>
Full screen <kbd>F</kbd></button>"""
_button = st.components.v2.component("kd_full_screen", html=_HTML, css=_CSS, js=_JS)


def button(key: str) -> None:
    """The button, which ``key`` presses too. Hidden where the browser cannot."""
    _button(data={"key": key}, key="full_screen", width="content")
