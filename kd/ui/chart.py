"""A Plotly chart that is updated in place.

st.plotly_chart builds the whole chart anew whenever its data change: zoom is lost
and nodes leak. This component draws into the same node with Plotly.react, reading
text and grid colours from the theme. Plotly itself is served as a static file from
the installed package.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import plotly
import streamlit as st

from kd.figures import Figure

_STATIC = Path(__file__).parents[2] / "static"

_LOAD = """
const load = () => (window.kdPlotly ??= new Promise((done, failed) => {
  const script = document.createElement("script")
  script.src = new URL("./app/static/plotly.min.js", document.baseURI).href
  script.onload = () => done(window.Plotly)
  script.onerror = () => { window.kdPlotly = undefined; failed(new Error("The chart library could not be loaded.")) }
  document.head.append(script)
}))
"""
_JS = _LOAD + """
// Where nothing can hover, Plotly's buttons would lie over the legend all the time.
const options = {
  displaylogo: false, displayModeBar: matchMedia("(hover: hover)").matches ? "hover" : false,
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
}

const themed = (layout, div) => {
  const style = getComputedStyle(div)
  const ink = style.getPropertyValue("--st-text-color").trim() || "#444"
  const lines = style.getPropertyValue("--st-border-color").trim() || "#ddd"
  const paper = style.getPropertyValue("--st-background-color").trim() || "#fff"
  const axis = { gridcolor: lines, zerolinecolor: lines, linecolor: lines, automargin: true }
  return {
    ...layout,
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: ink, family: style.fontFamily, size: 12 },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: lines, activecolor: ink },
    hoverlabel: { bgcolor: paper, bordercolor: lines, font: { color: ink } },
    xaxis: { ...axis, ...layout.xaxis }, yaxis: { ...axis, ...layout.yaxis },
  }
}

const draw = (div) => {
  // Nothing is drawn under a hand that drags: it would lose its zoom. The newest comes when it lets go.
  if (div.held || !div.isConnected) return
  // A copy, since Plotly writes zooms and hidden traces into what it was given. Drawn again, those would pass for the
  // figure's own, and the next figure would undo them.
  const { data, layout } = structuredClone(div.latest)
  window.Plotly.react(div, data, themed(layout, div), options)
}

const prepare = (div) => {
  div.addEventListener("pointerdown", () => {
    clearTimeout(div.release)  // of the press before: it must not let go of this one
    div.held = true
    const press = new AbortController()
    const letGo = () => {
      press.abort()
      div.release = setTimeout(() => { div.held = false; draw(div) }, 50)
    }
    for (const end of ["pointerup", "pointercancel"]) window.addEventListener(end, letGo, { signal: press.signal })
  }, true)
  // Columns find their width after the first drawing; Plotly itself watches only the window.
  div.watcher = new ResizeObserver(() => { if (div._fullLayout && div.isConnected) window.Plotly.Plots.resize(div) })
  div.watcher.observe(div)
}

export default function ({ data, parentElement }) {
  const div = parentElement.querySelector(".kd-chart")
  div.latest = JSON.parse(data.figure)
  div.style.height = div.latest.layout.height + "px"
  div.setAttribute("aria-label", data.label)
  if (!div.watcher) prepare(div)
  load().then(() => draw(div)).catch((error) => { div.textContent = error.message })
  // Streamlit also calls this while the chart stays on the page (a full rerun after a fragment's): then it must live on,
  // zoom and all. And a drawing under way goes on for a moment, and fails on a chart that is purged.
  return () => setTimeout(() => {
    if (div.isConnected) return
    div.watcher.disconnect()
    if (div._fullLayout) window.Plotly.purge(div)
  }, 1000)
}
"""

# An own prefix on the class, since the styles are not isolated: Plotly's stylesheet
# goes into the document's head and would not reach a shadow root.
_chart = st.components.v2.component(
    "kd_live_chart", html='<div class="kd-chart" role="img"></div>', css=".kd-chart {\n  width: 100%;\n}", js=_JS, isolate_styles=False
)


_library = st.components.v2.component("kd_plotly", js=_LOAD + "export default () => { load().catch(() => {}) }\n")


def preload() -> None:
    """Lets the browser fetch and read Plotly (5 MB) before a chart is wanted, so that Start shows its first point at once."""
    _library(key="plotly", height=1)


def provide_plotly() -> None:
    """Puts plotly.min.js of the installed package into static/, where the server finds it."""
    source = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    target = _STATIC / source.name
    if target.exists() and target.stat().st_size == source.stat().st_size:
        return
    _STATIC.mkdir(exist_ok=True)
    temporary = target.with_suffix(f".{os.getpid()}.tmp")
    shutil.copyfile(source, temporary)
    os.replace(temporary, target)


def live_chart(figure: Figure | str, key: str, label: str) -> None:
    """Draws ``figure`` (a dict, or its JSON) where ``key`` was drawn before.

    ``label`` says in words what the chart shows, for those who cannot see it.
    """
    text = figure if isinstance(figure, str) else json.dumps(figure)
    _chart(data={"figure": text, "label": label}, key=key)
